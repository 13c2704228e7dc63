//! Where and how models run: the `[inference]` table of every service that has models.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{CUDA, ExecutionProviderDispatch};
use serde::Deserialize;

use crate::package::Package;

/// Execution of models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceSettings {
    /// Folder of the bundle: a path or a `file://` URL.
    pub bundle: String,
    /// The ONNX Runtime library; empty for `ORT_DYLIB_PATH`, then the cache folder.
    pub onnxruntime_library: String,
    /// What models run on. A provider that does not start is an error, never a silent fall back to the CPU.
    pub provider: Provider,
    /// Sessions that run side by side, each on threads of its own; 0 for one per CPU core, or for one on all cores where the model
    /// has more than 256 MiB, and for one on a GPU.
    pub sessions: usize,
    /// Threads of one session; 0 for one a CPU core. Sums come out in another order with another number, and with
    /// them the last bits of a picture.
    pub threads: usize,
    /// Settings of the CUDA provider.
    pub cuda: CudaSettings,
}

/// From here on sessions side by side cost more memory than they are worth.
const LARGE_BYTES: u64 = 256 << 20;

/// An ONNX Runtime execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// Settings of the CUDA provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaSettings {
    /// The device's number.
    pub device_id: i32,
    /// Most memory that the arena may take, MiB; 0 for all of it.
    pub memory_limit_mib: usize,
    /// How convolution algorithms are chosen.
    pub convolution_search: ConvolutionSearch,
}

/// How cuDNN's convolution algorithms are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvolutionSearch {
    /// Tries all of them at the first run of each shape: the fastest later, slow at first.
    Exhaustive,
    /// Asks cuDNN's heuristics.
    Heuristic,
    /// Takes the default one.
    Default,
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

impl InferenceSettings {
    /// Sessions to open side by side.
    pub fn session_count(&self) -> usize {
        match (self.sessions, self.provider) {
            (0, Provider::Cpu) => cores(),
            // They would share the one GPU, each with weights of its own in its memory.
            (0, Provider::Cuda) => 1,
            (sessions, _) => sessions,
        }
    }

    /// Threads of one session.
    pub fn thread_count(&self) -> usize {
        if self.threads == 0 { cores() } else { self.threads }
    }

    /// The same settings for a package: where the number of sessions is left open, a large model has one, on all cores. Each
    /// session holds weights of its own.
    #[must_use]
    pub fn fitting(&self, package: &Package) -> Self {
        let size_bytes: u64 = package.manifest.files.iter().map(|file| file.size_bytes).sum();
        if self.sessions == 0 && size_bytes > LARGE_BYTES {
            Self { sessions: 1, threads: 0, ..self.clone() }
        } else {
            self.clone()
        }
    }

    /// The same settings with one session.
    #[must_use]
    pub fn single_session(&self) -> Self {
        Self { sessions: 1, ..self.clone() }
    }

    /// The provider's name, for people.
    pub fn provider_name(&self) -> &'static str {
        match self.provider {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
        }
    }

    /// The providers to register, each an error if it does not start. The CPU needs none.
    pub(crate) fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        match self.provider {
            Provider::Cpu => Vec::new(),
            Provider::Cuda => {
                let search = match self.cuda.convolution_search {
                    ConvolutionSearch::Exhaustive => ConvAlgorithmSearch::Exhaustive,
                    ConvolutionSearch::Heuristic => ConvAlgorithmSearch::Heuristic,
                    ConvolutionSearch::Default => ConvAlgorithmSearch::Default,
                };
                let mut cuda =
                    CUDA::default().with_device_id(self.cuda.device_id).with_conv_algorithm_search(search);
                if self.cuda.memory_limit_mib > 0 {
                    cuda = cuda.with_memory_limit(self.cuda.memory_limit_mib << 20);
                }
                vec![cuda.build().error_on_failure()]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_one_session_unless_more_are_asked_for() {
        let settings = |provider, sessions| InferenceSettings {
            bundle: String::new(),
            onnxruntime_library: String::new(),
            provider,
            sessions,
            threads: 1,
            cuda: CudaSettings {
                device_id: 0,
                memory_limit_mib: 0,
                convolution_search: ConvolutionSearch::Default,
            },
        };
        assert_eq!(settings(Provider::Cuda, 0).session_count(), 1);
        assert_eq!(settings(Provider::Cuda, 3).session_count(), 3);
        assert_eq!(settings(Provider::Cpu, 0).session_count(), cores());
    }
}
