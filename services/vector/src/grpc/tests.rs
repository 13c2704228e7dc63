use tonic::Code;

use super::*;

#[test]
fn a_batch_that_is_given_up_leaves_its_turn() {
    let given_up = Shutdown::new();
    let mut asked = 0;
    let batch = (0..9).map(|query| {
        asked += 1;
        if query == 2 {
            given_up.cancel();
        }
        Ok(vec![Vec::new()])
    });
    assert_eq!(while_waited_for(&given_up, batch).unwrap_err().code(), Code::Cancelled);
    assert_eq!(asked, 3);
    assert_eq!(while_waited_for(&Shutdown::new(), (0..9).map(|_| Ok(vec![Vec::new()]))).unwrap().len(), 9);
}
