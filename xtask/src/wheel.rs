//! The pinned ONNX Runtime: one version, one Python wheel a platform, each with the checksum it must have.
//!
//! The wheels are those of one fixed Python version, whichever Python is installed: only the native library inside is
//! used, and a fixed file has a fixed checksum.

/// The version of ONNX Runtime that Reverie is built and tested with.
pub(crate) const VERSION: &str = "1.31.1";
/// The oldest ONNX Runtime whose interface Reverie can use (`api-24` of the crate `ort`).
pub(crate) const OLDEST_USABLE: &str = "1.24";
/// The Python version whose wheels are pinned, as pip's `--python-version` takes it.
pub(crate) const PYTHON_VERSION: &str = "3.12";

/// A wheel of the package `onnxruntime` for one platform.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// pip's platform tag.
    pub(crate) platform: &'static str,
    /// SHA-256 of the wheel, in lower-case hexadecimal.
    pub(crate) sha256: &'static str,
    /// The runtime library inside the wheel.
    pub(crate) member: &'static str,
    /// The library's name in the cache, without a version so that it can be named in settings.
    pub(crate) library: &'static str,
}

const LINUX_X86_64: Wheel = Wheel {
    platform: "manylinux_2_28_x86_64",
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
    library: "libonnxruntime.so",
};

const LINUX_ARM64: Wheel = Wheel {
    platform: "manylinux_2_28_aarch64",
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
    library: "libonnxruntime.so",
};

const MACOS_ARM64: Wheel = Wheel {
    platform: "macosx_14_0_arm64",
    sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
    member: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
    library: "libonnxruntime.dylib",
};

impl Wheel {
    /// The wheel for an operating system and processor, named as in `std::env::consts`, and C library (`target_env`).
    pub(crate) fn for_platform(os: &str, processor: &str, c_library: &str) -> Option<&'static Self> {
        match (os, processor, c_library) {
            // The wheels are linked against glibc.
            ("linux", "x86_64", "gnu") => Some(&LINUX_X86_64),
            ("linux", "aarch64", "gnu") => Some(&LINUX_ARM64),
            ("macos", "aarch64", _) => Some(&MACOS_ARM64),
            _ => None,
        }
    }

    /// The name under which pip saves it.
    pub(crate) fn file_name(&self) -> String {
        let tag = format!("cp{}", PYTHON_VERSION.replace('.', ""));
        format!("onnxruntime-{VERSION}-{tag}-{tag}-{}.whl", self.platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_supported_platform_has_its_own_wheel() {
        let wheels = [("linux", "x86_64", "gnu"), ("linux", "aarch64", "gnu"), ("macos", "aarch64", "")]
            .map(|(os, processor, c_library)| Wheel::for_platform(os, processor, c_library).unwrap());
        for (index, wheel) in wheels.iter().enumerate() {
            assert_eq!(hex::decode(wheel.sha256).unwrap().len(), 32, "{wheel:?}");
            assert!(wheel.member.contains(VERSION), "{wheel:?}");
            assert!(wheels[..index].iter().all(|earlier| earlier.sha256 != wheel.sha256), "{wheel:?}");
        }
    }

    #[test]
    fn other_platforms_have_none() {
        for (os, processor, c_library) in [
            ("macos", "x86_64", ""),
            ("linux", "riscv64", "gnu"),
            ("linux", "x86_64", "musl"),
            ("windows", "x86_64", "msvc"),
        ] {
            assert_eq!(Wheel::for_platform(os, processor, c_library), None);
        }
    }

    #[test]
    fn images_take_the_same_wheels() {
        let taken = include_str!("../../docker/onnxruntime.txt");
        assert!(taken.contains(&format!("onnxruntime=={VERSION} ")), "{taken}");
        assert_eq!(taken.matches("--hash").count(), 2);
        for wheel in [LINUX_X86_64, LINUX_ARM64] {
            assert!(
                taken.contains(&format!("--hash=sha256:{}", wheel.sha256)),
                "{wheel:?} is not in {taken}"
            );
        }
        assert!(
            include_str!("../../docker/onnxruntime-gpu.txt")
                .contains(&format!("onnxruntime-gpu=={VERSION} "))
        );
    }

    #[test]
    fn the_file_name_is_the_one_pip_saves() {
        assert_eq!(LINUX_X86_64.file_name(), "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl");
    }
}
