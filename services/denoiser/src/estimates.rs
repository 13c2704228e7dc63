//! What the model takes the image for between steps, as answers.

use futures::stream::{self, PollNext, Stream, StreamExt as _};
use reverie_engine::trajectory::Estimate;
use reverie_proto::denoiser::v1 as wire;
use reverie_proto::denoiser::v1::DenoiseResponse;
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::sizes::Size;
use reverie_service_kit::Permit;
use reverie_stage::answers::picture;
use tokio::sync::watch;
use tonic::Status;

type Answer = Result<DenoiseResponse, Status>;

/// The answers of a trajectory, whose call has `permit`, and its estimates in between: the latest whenever there is no other answer, and
/// none after the last.
pub(crate) fn between(
    answers: impl Stream<Item = Answer> + Send + 'static,
    estimates: watch::Receiver<Option<Estimate>>,
    size: Size,
    permit: Permit,
) -> impl Stream<Item = Answer> + Send + 'static {
    let estimates = stream::unfold(estimates, move |mut latest| {
        let permit = permit.clone();
        async move {
            latest.changed().await.ok()?;
            let estimate = latest.borrow_and_update().clone()?;
            Some((answer(estimate, size, permit).await, latest))
        }
    });
    let all = stream::select_with_strategy(answers.boxed(), estimates.boxed(), |(): &mut ()| PollNext::Left);
    all.scan(false, |has_ended, answer| {
        let is_last =
            !matches!(&answer, Ok(DenoiseResponse { event: Some(Event::Progress(_) | Event::Estimate(_)) }));
        std::future::ready(if std::mem::replace(has_ended, *has_ended || is_last) {
            None
        } else {
            Some(answer)
        })
    })
}

async fn answer(Estimate { step, steps, x0 }: Estimate, size: Size, permit: Permit) -> Answer {
    let image = permit.run_blocking(move || Ok(picture(&x0, size.width, size.height)?)).await?;
    let estimate = wire::Estimate { step: step as u32, steps: steps as u32, image: Some(image) };
    Ok(DenoiseResponse { event: Some(Event::Estimate(estimate)) })
}

#[cfg(test)]
mod tests {
    use reverie_proto::diffusion::v1::StepProgress;

    use super::*;

    #[tokio::test]
    async fn only_the_latest_is_sent_and_none_after_the_last_answer() {
        let size = Size::square(1);
        let estimate = |step| Some(Estimate { step, steps: 9, x0: vec![0.5; 3] });
        let event = |event| Ok(DenoiseResponse { event: Some(event) });
        let (latest, receiver) = watch::channel(None);
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        let answers = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
        let mut all = Box::pin(between(answers, receiver, size, Permit::default()));
        let mut next = async || match all.next().await?.unwrap().event.unwrap() {
            Event::Progress(progress) => Some(progress.step),
            Event::Estimate(wire::Estimate { step, image, .. }) => {
                assert_eq!(image.unwrap().data, vec![191; 3]);
                Some(100 + step)
            }
            Event::Completed(_) => Some(0),
        };
        latest.send_replace(estimate(1));
        latest.send_replace(estimate(2));
        send.send(event(Event::Progress(StepProgress { step: 2, steps: 9 }))).unwrap();
        assert_eq!(next().await, Some(2));
        assert_eq!(next().await, Some(102));
        latest.send_replace(estimate(3));
        send.send(event(Event::Completed(wire::DenoiseCompleted::default()))).unwrap();
        assert_eq!(next().await, Some(0));
        assert_eq!(next().await, None);
    }
}
