use std::time::Duration;

use reverie_proto::generation::v1::Stage;
use reverie_service_kit::context::Priority;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

/// One second of two cores in the base model, and a second of one core in a level of the same process.
fn needs(others: f64) -> Vec<Need> {
    let prediction =
        Prediction { seconds: 1.0, resource: 7, units: 2, unit_seconds: 2.0, others_unit_seconds: others };
    vec![
        Need { place: Stage::Base.into(), prediction, is_shared: false },
        Need {
            place: Place::level(0),
            prediction: Prediction { unit_seconds: 1.0, ..prediction },
            is_shared: false,
        },
    ]
}

fn within(seconds: u64) -> Context {
    Context::with_timeout(Duration::from_secs(seconds))
}

#[test]
fn what_cannot_be_done_in_time_is_refused_with_what_it_takes() {
    let admission = Arc::<Admission>::default();
    let refused = admission.admit(within(1), needs(0.0), 1, 2).err().unwrap();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!(refused.message().contains("it takes 2.20 s alone"), "{refused}");
    assert!(admission.admit(within(3), needs(0.0), 1, 2).is_ok());
    // Stages that predict nothing are not waited for.
    assert!(admission.admit(within(1), Vec::new(), 1, 0).is_ok());
}

#[test]
fn a_request_asks_for_the_work_of_all_its_images() {
    let admission = Arc::<Admission>::default();
    // Of 3.3 s of two cores each: one image has to wait for its own stages, several for the cores.
    let refused = admission.admit(within(10), needs(0.0), 8, 2).err().unwrap();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "waiting does not help");
    assert!(refused.message().contains("it takes 13.20 s alone"), "{refused}");
    let booked = admission.admit(within(10), needs(0.0), 4, 2).ok().unwrap();
    let busy = admission.admit(within(10), needs(0.0), 3, 2).err().unwrap();
    assert_eq!(busy.code(), Code::ResourceExhausted);
    // Two are done, the third has a level left.
    booked.end(0);
    booked.end(1);
    booked.reach(2, Place::level(0), 0.0);
    assert!((booked.after(3, Stage::Base.into()) - 1.1).abs() < 1e-9);
    assert!(booked.after(0, Stage::Base.into()) < 1e-9);
    assert!(admission.admit(within(10), needs(0.0), 3, 2).is_ok());
}

#[test]
fn a_request_that_may_be_degraded_books_what_fits_and_the_rest_when_there_is_room() {
    let admission = Arc::<Admission>::default();
    let (first, second) = (Place::from(Stage::Base), Place::level(0));
    // Both stages of one image take 2.2 s, the first 1.1 s.
    assert!(admission.admit(within(2), needs(0.0), 1, 2).is_err());
    let refused = admission.admit(within(1), needs(0.0), 1, 1).err().unwrap();
    assert!(refused.message().contains("it takes 1.10 s alone"), "{refused}");
    let booked = admission.admit(within(2), needs(0.0), 1, 1).ok().unwrap();
    assert!(booked.after(0, first) < 1e-9, "the second is not booked");
    assert!(!booked.can_do(within(1), 0, second));
    // With both stages left, it cannot be done; with the first done, it can.
    assert!(!booked.can_do(within(2), 0, second));
    booked.reach(0, first, 1.0);
    assert!(booked.can_do(within(2), 0, second) && booked.can_do(within(2), 0, second));
    assert!((booked.after(0, first) - 1.1).abs() < 1e-9, "it is booked once");
    // A level without a prediction is tried.
    assert!(booked.can_do(within(1), 0, Place::level(1)));
    // Others go before it.
    drop(booked);
    let booked = admission.admit(within(2), needs(0.0), 1, 1).ok().unwrap();
    booked.reach(0, first, 1.0);
    let _other = admission.admit(within(2), needs(0.0)[..1].to_vec(), 1, 1).ok().unwrap();
    assert!(!booked.can_do(within(2), 0, second));
    assert!(booked.after(0, first) < 1e-9);
}

#[test]
fn what_would_be_late_behind_others_is_told_when_to_come_again() {
    let admission = Arc::<Admission>::default();
    let mut booked = Vec::new();
    let refused = loop {
        match admission.admit(within(10), needs(0.0), 1, 2) {
            Ok(booking) => booked.push(booking),
            Err(refused) => break refused,
        }
    };
    // Two cores do twenty seconds of work in ten, and a request takes 3.3.
    assert!((5..=6).contains(&booked.len()), "{}", booked.len());
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
    // What is done makes room, and so does what ends.
    for booking in &booked {
        booking.reach(0, Place::level(0), 0.5);
    }
    booked.push(admission.admit(within(10), needs(0.0), 1, 2).ok().unwrap());
    booked.clear();
    assert!(admission.lock().requests.is_empty());
    assert!(admission.lock().resources.values().all(|resource| resource.jobs.is_empty()));
}

#[test]
fn work_of_others_goes_before_whatever_is_booked_here() {
    let admission = Arc::<Admission>::default();
    let refused = admission.admit(within(10), needs(20.0), 1, 2).err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // Two cores do twenty seconds of work in ten; three requests take 9.9, of which no lane has anything yet.
    let _booked: Vec<_> =
        (0..3).map(|_| admission.admit(within(10), needs(0.0), 1, 2).ok().unwrap()).collect();
    let beside = admission.admit(within(10), needs(1.0), 1, 2);
    assert!(beside.is_ok(), "{:?}", beside.err());
    assert!(admission.admit(within(10), needs(3.0), 1, 2).is_err());
}

#[test]
fn work_of_others_counts_beside_what_is_due_before_it_ends() {
    let admission = Arc::<Admission>::default();
    let _soon = admission.admit(within(3), needs(0.0), 1, 2).ok().unwrap();
    // 3.3 s are booked, 16 are others', and it takes 3.3: more than two cores do in ten seconds.
    assert!(admission.admit(within(10), needs(8.0), 1, 2).is_err());
    assert!(admission.admit(within(10), needs(2.0), 1, 2).is_ok());
    // Batch requests, which interactive ones do not wait for, hide nothing.
    let batch = within(9).with_priority(Priority::Batch);
    let _batch: Vec<_> = (0..2).map(|_| admission.admit(batch, needs(0.0), 1, 2).ok().unwrap()).collect();
    assert!(admission.admit(within(10), needs(8.0), 1, 2).is_err());
    // One that has no deadline waits as long as it takes.
    assert!(admission.admit(Context::default(), needs(1e6), 1, 2).is_ok());
}

#[test]
fn what_is_done_once_for_all_images_is_booked_once() {
    let admission = Arc::<Admission>::default();
    let shared = |seconds| {
        let prediction = Prediction { seconds, unit_seconds: seconds, ..needs(0.0)[0].prediction };
        let texts = Need { place: Stage::Encode.into(), prediction, is_shared: true };
        [vec![texts], needs(0.0)].concat()
    };
    // Of two cores in ten seconds: 6.6 s of images, and what is left for the texts.
    assert!(admission.admit(within(10), shared(6.0), 2, 3).is_ok());
    let refused = admission.admit(within(10), shared(8.0), 2, 3).err().unwrap();
    assert!(refused.message().contains("it takes 11.00 s alone"), "{refused}");
    let booked = admission.admit(within(10), shared(6.0), 2, 3).ok().unwrap();
    assert!(admission.admit(within(10), needs(0.0), 2, 2).is_err());
    booked.reach(0, Stage::Base.into(), 0.0);
    booked.reach(1, Stage::Base.into(), 0.0);
    let after = admission.admit(within(10), needs(0.0), 2, 2);
    assert!(after.is_ok(), "{:?}", after.err());
}

#[test]
fn a_flood_leaves_room_for_a_modest_caller() {
    let admission = Arc::<Admission>::default();
    let named = |name: &str| within(40).asked_by(name.as_bytes());
    // It has asked before, as a caller that comes now and then has.
    drop(admission.admit(named("modest"), needs(0.0), 1, 2));
    let mut flood = Vec::new();
    while let Ok(booking) = admission.admit(named("flood"), needs(0.0), 1, 2) {
        flood.push(booking);
    }
    let modest = admission.admit(named("modest"), needs(0.0), 1, 2);
    assert!(modest.is_ok(), "{:?}", modest.err());
}
