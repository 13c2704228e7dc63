//! Our numbers to and from the tensors of ONNX Runtime.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::memory::Allocator;
use ort::value::{DynTensor, DynValue, PrimitiveTensorElementType, TensorElementType};
use reverie_packages::package::DType;

use super::Values;

/// A tensor in the memory of the CPU, not yet written to.
pub(super) fn new(dtype: DType, shape: &[usize]) -> ort::Result<DynTensor> {
    let element = match dtype {
        DType::F32 => TensorElementType::Float32,
        DType::F16 => TensorElementType::Float16,
        DType::I64 => TensorElementType::Int64,
        DType::I32 => TensorElementType::Int32,
    };
    DynTensor::new(&Allocator::default(), element, shape.to_vec())
}

/// A tensor of `rows`, one after another.
pub(super) fn of(dtype: DType, shape: &[usize], rows: &[Values<'_>]) -> ort::Result<DynTensor> {
    let mut tensor = new(dtype, shape)?;
    write(&mut tensor, dtype, rows)?;
    Ok(tensor)
}

/// Writes `rows` of equal length one after another; together they have as many elements as `tensor`.
pub(super) fn write(tensor: &mut DynTensor, dtype: DType, rows: &[Values<'_>]) -> ort::Result<()> {
    match dtype {
        DType::F32 => convert(tensor, rows, <[f32]>::copy_from_slice, |value| value as f32),
        DType::F16 => {
            convert(tensor, rows, <[f16]>::convert_from_f32_slice, |value| f16::from_f32(value as f32))
        }
        DType::I64 => convert(tensor, rows, |to, from| each(to, from, |value| value as i64), |value| value),
        DType::I32 => {
            convert(tensor, rows, |to, from| each(to, from, |value| value as i32), |value| value as i32)
        }
    }
}

fn convert<T: PrimitiveTensorElementType>(
    tensor: &mut DynTensor,
    rows: &[Values<'_>],
    floats: impl Fn(&mut [T], &[f32]),
    integer: impl Fn(i64) -> T,
) -> ort::Result<()> {
    let (_, elements) = tensor.try_extract_tensor_mut::<T>()?;
    let length = elements.len() / rows.len().max(1);
    for (place, row) in elements.chunks_exact_mut(length.max(1)).zip(rows) {
        match row {
            Values::F32(values) => floats(place, values),
            Values::I64(values) => each(place, values, &integer),
        }
    }
    Ok(())
}

fn each<T, U: Copy>(to: &mut [T], from: &[U], convert: impl Fn(U) -> T) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// Copies one of `count` equal parts of an output of floating point to its place.
pub(super) fn read(
    value: &DynValue,
    dtype: DType,
    (part, count): (usize, usize),
    place: &mut [f32],
) -> Result<(), String> {
    fn of<T: PrimitiveTensorElementType>(
        value: &DynValue,
        part: usize,
        count: usize,
        length: usize,
    ) -> Result<&[T], String> {
        let (_, data) = value.try_extract_tensor::<T>().map_err(|error| error.to_string())?;
        if data.len() != count * length {
            return Err(format!("has {} elements, not {length}", data.len() / count));
        }
        Ok(&data[part * length..][..length])
    }
    match dtype {
        DType::F32 => place.copy_from_slice(of(value, part, count, place.len())?),
        DType::F16 => of::<f16>(value, part, count, place.len())?.convert_to_f32_slice(place),
        DType::I64 | DType::I32 => return Err("holds whole numbers, which no caller reads".to_owned()),
    }
    Ok(())
}
