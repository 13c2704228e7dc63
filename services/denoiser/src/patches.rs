//! Latents as sequences of tokens, for transformers that take them so (FLUX): a token is a square of latent pixels, channel by
//! channel, and tokens follow each other row by row.

/// How a latent of one size becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patches {
    sample: [usize; 3],
    side: usize,
}

impl Patches {
    /// Squares of `side` x `side` pixels of a sample `[channels, height, width]`, which are multiples of it.
    pub(crate) fn new(sample: [usize; 3], side: usize) -> Self {
        Self { sample, side }
    }

    /// Extents of the tokens, the batch included.
    pub(crate) fn shape(&self) -> [usize; 3] {
        let [channels, height, width] = self.sample;
        [1, height / self.side * (width / self.side), channels * self.side * self.side]
    }

    /// The places in the sample of the elements of the tokens, in their order.
    fn places(self) -> impl Iterator<Item = usize> {
        let Self { sample: [channels, height, width], side } = self;
        let tokens =
            (0..height / side).flat_map(move |row| (0..width / side).map(move |column| (row, column)));
        tokens.flat_map(move |(row, column)| {
            (0..channels * side * side).map(move |element| {
                let (channel, y, x) = (element / (side * side), element / side % side, element % side);
                (channel * height + row * side + y) * width + column * side + x
            })
        })
    }

    pub(crate) fn to_tokens(self, sample: &[f32]) -> Vec<f32> {
        self.places().map(|place| sample[place]).collect()
    }

    pub(crate) fn to_sample(self, tokens: &[f32], sample: &mut [f32]) {
        self.places().zip(tokens).for_each(|(place, value)| sample[place] = *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_square_of_all_channels() {
        // Two channels of 2 x 4: channel 0 is 0 to 7, channel 1 is 8 to 15.
        let sample: Vec<f32> = (0_u8..16).map(f32::from).collect();
        let patches = Patches::new([2, 2, 4], 2);
        assert_eq!(patches.shape(), [1, 2, 8]);
        let tokens = patches.to_tokens(&sample);
        assert_eq!(tokens[..8], [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 12.0, 13.0]);
        let mut back = vec![0.0; 16];
        patches.to_sample(&tokens, &mut back);
        assert_eq!(back, sample);
    }
}
