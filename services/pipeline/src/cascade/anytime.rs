//! An image as large as the time suffices for: every finished level is kept until the next one is done.

use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::Image;
use tonic::{Code, Status};

use super::image::Drawing;
use super::ledger::Ledger;
use crate::position::Place;

impl Drawing<'_> {
    /// The image of the last level that is done, and encoded, as long before the deadline as an answer takes; with the number of that
    /// level.
    pub(super) async fn enlarge_while_in_time(
        &self,
        mut image: Image,
        mut place: Place,
        ledger: &mut Ledger<'_>,
    ) -> Result<(Image, u32), Status> {
        let mut encoded = self.encode(image.clone()).await?;
        for number in 0..self.run.levels.len() {
            if self.run.previews {
                self.preview(encoded.clone(), place, ledger).await;
            }
            match self.enlarge_in_time(image, number, ledger).await? {
                Some(larger) => (image, encoded) = larger,
                None => return Ok((encoded, number as u32)),
            }
            place = Place::level(number);
        }
        Ok((encoded, self.run.levels.len() as u32))
    }

    /// The image of the next level, and the same encoded; none if that cannot be done in time. It is not begun if it is predicted to be
    /// late.
    async fn enlarge_in_time(
        &self,
        image: Image,
        number: usize,
        ledger: &mut Ledger<'_>,
    ) -> Result<Option<(Image, Image)>, Status> {
        let in_time = self.context.reserving(ledger.news.time_to_answer());
        let pixels = Size::square(self.run.levels[number].0.side).pixels();
        let before_encoding = in_time.reserving(self.pace.encoding(pixels));
        if !ledger.position.can_do(before_encoding, Place::level(number)) {
            tracing::info!(level = 1 + number, "a smaller image has to do: the level cannot be done in time");
            return Ok(None);
        }
        let enlarging = async {
            let larger = self.enlarge(before_encoding, image, number, ledger).await?;
            let encoded = self.encode(larger.clone()).await?;
            Ok((larger, encoded))
        };
        match in_time.within("enlarging", Box::pin(enlarging)).await {
            Ok(larger) => Ok(Some(larger)),
            // A lane refuses what would be late behind others.
            Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::ResourceExhausted) => {
                let message = status.message();
                tracing::info!(level = 1 + number, message, "a smaller image has to do");
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }
}
