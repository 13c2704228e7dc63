//! Where and how models run: the `[inference]` table of every service that has models.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider as _, CUDA, ExecutionProviderDispatch, OpenVINO, TensorRT,
};
use ort::memory::AllocationDevice;
use serde::Deserialize;

/// Execution of models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceSettings {
    /// Folder of the bundle: a path or a URL.
    pub bundle: String,
    /// The ONNX Runtime library; empty for `ORT_DYLIB_PATH`, then the cache folder.
    pub onnxruntime_library: String,
    /// What models run on. A provider that does not start is an error, never a silent fall back to the CPU.
    pub provider: Provider,
    /// Forward passes computed side by side, each on `threads` threads; 0 for as many as the CPU cores allow, and 1 on a GPU.
    pub sessions: usize,
    /// Threads that compute one pass; 0 for one per CPU core. With another number the sums come out in another order, which changes the
    /// last bits of an image.
    pub threads: usize,
    /// Rows that one forward pass computes, on every provider: as many as are ready and of equal shape, padded to this number.
    pub batch: NonZeroUsize,
    /// Settings of the OpenVINO provider.
    pub openvino: OpenvinoSettings,
    /// Settings of the CUDA provider, and of the GPU that TensorRT uses.
    pub cuda: CudaSettings,
    /// Settings of the TensorRT provider.
    pub tensorrt: TensorrtSettings,
}

/// A device with memory of its own.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) device: AllocationDevice<'static>,
    pub(crate) id: i32,
}

/// An ONNX Runtime execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The CPU, by ONNX Runtime's own kernels.
    Cpu,
    /// The CPU, by those of OpenVINO.
    Openvino,
    /// An NVIDIA GPU.
    Cuda,
    /// An NVIDIA GPU by TensorRT, which compiles a model for it; what TensorRT does not know, by CUDA.
    Tensorrt,
}

/// Settings of the OpenVINO provider.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenvinoSettings {
    /// The numbers that models are computed with.
    pub precision: Precision,
}

/// Numbers that models are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// bfloat16, with sums in 32 bits, where the CPU has it (AVX-512 BF16, AMX).
    Bf16,
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

/// Settings of the TensorRT provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorrtSettings {
    /// The least precise numbers that it may compute with.
    pub precision: TensorrtPrecision,
    /// Folder in which compiled models are kept; empty for none.
    pub engine_cache: String,
}

/// The least precise numbers that TensorRT may compute with, where they are faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorrtPrecision {
    /// 32-bit floating point, whose products may be of TensorFloat-32.
    F32,
    /// 16-bit floating point.
    F16,
    /// bfloat16.
    Bf16,
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

/// The CPU cores that this process may use: its affinity and its cgroup quota count.
pub fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

impl InferenceSettings {
    /// `sessions` of ONNX Runtime's own on the CPU, each on `threads` threads, for tests of models.
    pub fn on_cpu(sessions: usize, threads: usize, batch: NonZeroUsize) -> Self {
        Self {
            bundle: String::new(),
            onnxruntime_library: String::new(),
            provider: Provider::Cpu,
            sessions,
            threads,
            batch,
            openvino: OpenvinoSettings { precision: Precision::F32 },
            cuda: CudaSettings {
                device_id: 0,
                memory_limit_mib: 0,
                convolution_search: ConvolutionSearch::Default,
            },
            tensorrt: TensorrtSettings { precision: TensorrtPrecision::F32, engine_cache: String::new() },
        }
    }

    /// Sessions that run side by side.
    pub fn session_count(&self) -> usize {
        match (self.sessions, self.provider) {
            (0, Provider::Cpu | Provider::Openvino) => (cores() / self.thread_count()).max(1),
            // They would share the one GPU, each with weights of its own in its memory.
            (0, Provider::Cuda | Provider::Tensorrt) => 1,
            (sessions, _) => sessions,
        }
    }

    /// Threads of one session.
    pub fn thread_count(&self) -> usize {
        if self.threads == 0 { cores() } else { self.threads }
    }

    /// CPU cores that one forward pass keeps busy.
    pub fn cores_of_a_row(&self) -> usize {
        match self.provider {
            Provider::Cpu | Provider::Openvino => self.thread_count(),
            Provider::Cuda | Provider::Tensorrt => 0,
        }
    }

    /// Whether the sessions of a model can share one copy of its weights. ONNX Runtime's own kernels allow that only: the allocator of its
    /// CUDA provider is not safe across threads, and OpenVINO computes one pass of a session at a time.
    pub fn shares_weights(&self) -> bool {
        self.provider == Provider::Cpu
    }

    /// Where values are uploaded to that last over many rows; none where the model reads the memory that they are in.
    pub(crate) fn device(&self) -> Option<Device> {
        match self.provider {
            Provider::Cpu | Provider::Openvino => None,
            Provider::Cuda | Provider::Tensorrt => {
                Some(Device { device: AllocationDevice::CUDA, id: self.cuda.device_id })
            }
        }
    }

    /// The provider's name, for people.
    pub fn provider_name(&self) -> &'static str {
        match self.provider {
            Provider::Cpu => "cpu",
            Provider::Openvino => "openvino",
            Provider::Cuda => "cuda",
            Provider::Tensorrt => "tensorrt",
        }
    }

    /// Refuses what this machine cannot do, and would do otherwise without a word.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_with(has_bf16())
    }

    fn check_with(&self, has_bf16: bool) -> Result<(), String> {
        if self.provider == Provider::Openvino && self.openvino.precision == Precision::Bf16 && !has_bf16 {
            let why = "this CPU has no instructions for bfloat16 (AVX-512 BF16; BF16 of Arm); set inference.openvino.precision to \"f32\"";
            return Err(why.to_owned());
        }
        Ok(())
    }

    /// Properties of OpenVINO's CPU plugin, as JSON. Sessions side by side are not bound to the same cores.
    fn openvino_config(&self) -> String {
        let precision = match self.openvino.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        let threads = self.thread_count();
        format!(
            r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{precision}","INFERENCE_NUM_THREADS":"{threads}","NUM_STREAMS":"1","ENABLE_CPU_PINNING":"NO"}}}}"#
        )
    }

    /// The providers to register, each an error if it does not start. The CPU needs none.
    pub(crate) fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        match self.provider {
            Provider::Cpu => Vec::new(),
            Provider::Openvino => {
                let openvino = OpenVINO::default().with_device_type("CPU");
                vec![
                    openvino
                        .with_arbitrary_config("load_config", self.openvino_config())
                        .build()
                        .error_on_failure(),
                ]
            }
            Provider::Cuda => vec![self.on_cuda()],
            Provider::Tensorrt => vec![self.on_tensorrt(), self.on_cuda()],
        }
    }

    fn on_cuda(&self) -> ExecutionProviderDispatch {
        let search = match self.cuda.convolution_search {
            ConvolutionSearch::Exhaustive => ConvAlgorithmSearch::Exhaustive,
            ConvolutionSearch::Heuristic => ConvAlgorithmSearch::Heuristic,
            ConvolutionSearch::Default => ConvAlgorithmSearch::Default,
        };
        let mut cuda = CUDA::default().with_device_id(self.cuda.device_id).with_conv_algorithm_search(search);
        if self.cuda.memory_limit_mib > 0 {
            cuda = cuda.with_memory_limit(self.cuda.memory_limit_mib << 20);
        }
        cuda.build().error_on_failure()
    }

    fn on_tensorrt(&self) -> ExecutionProviderDispatch {
        let TensorrtSettings { precision, engine_cache } = &self.tensorrt;
        let mut tensorrt = TensorRT::default()
            .with_device_id(self.cuda.device_id)
            .with_fp16(*precision == TensorrtPrecision::F16)
            .with_bf16(*precision == TensorrtPrecision::Bf16);
        if !engine_cache.is_empty() {
            tensorrt = tensorrt
                .with_engine_cache(true)
                .with_engine_cache_path(engine_cache)
                .with_timing_cache(true)
                .with_timing_cache_path(engine_cache);
        }
        tensorrt.build().error_on_failure()
    }
}

/// Whether this CPU computes with bfloat16. Those that have AMX's instructions have AVX-512's.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_without_bfloat16_is_not_asked_for_it() {
        let of = |provider, precision| InferenceSettings {
            provider,
            openvino: OpenvinoSettings { precision },
            ..InferenceSettings::on_cpu(1, 1, NonZeroUsize::MIN)
        };
        let told = of(Provider::Openvino, Precision::Bf16).check_with(false).unwrap_err();
        assert!(told.contains("no instructions for bfloat16"), "{told}");
        of(Provider::Openvino, Precision::Bf16).check_with(true).unwrap();
        of(Provider::Openvino, Precision::F32).check_with(false).unwrap();
        of(Provider::Cpu, Precision::Bf16).check_with(false).unwrap();
    }

    #[test]
    fn a_gpu_has_one_session_unless_more_are_asked_for() {
        let settings = |provider, sessions| InferenceSettings {
            provider,
            ..InferenceSettings::on_cpu(sessions, 1, NonZeroUsize::MIN)
        };
        for on_gpu in [Provider::Cuda, Provider::Tensorrt] {
            assert_eq!(settings(on_gpu, 0).session_count(), 1);
            assert_eq!(settings(on_gpu, 3).session_count(), 3);
        }
        for on_cpu in [Provider::Cpu, Provider::Openvino] {
            assert_eq!(settings(on_cpu, 0).session_count(), cores());
        }
    }
}
