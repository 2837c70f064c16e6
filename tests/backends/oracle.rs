//! What the reference answers, computed once for all backends: its plain loops would take most of the time of these tests.
//!
//! A claim is a function of the backend that it is made of, so it puts the same questions to the reference, in the same
//! order, on every backend. The first run of a claim that comes to a question has it computed; the others, with other
//! kernels, threads and GPUs, are given the same answer. A claim that asked another question would be given an answer that
//! does not fit, and fail.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use sterna::reference::Reference;

/// One place for each question of a claim.
type Answers = Vec<Arc<OnceLock<Box<dyn Any + Send + Sync>>>>;

/// By the names of claims.
static ANSWERS: LazyLock<Mutex<HashMap<&'static str, Answers>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The claim that runs on this thread, and how many questions it has asked.
    static ASKING: RefCell<Option<(&'static str, usize)>> = const { RefCell::new(None) };
}

/// Runs a claim on one backend: its next question is its first.
pub fn claiming(name: &'static str, claim: impl FnOnce()) {
    /// A claim that fails asks no more.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            ASKING.set(None);
        }
    }
    ASKING.set(Some((name, 0)));
    let _ended = Ended;
    claim();
}

/// What the reference answers. Outside of claims it is always computed.
pub fn reference<T: Clone + Send + Sync + 'static>(question: impl FnOnce(&mut Reference) -> T) -> T {
    let compute = || question(&mut Reference::default());
    let asked = ASKING.with_borrow_mut(|asking| {
        asking.as_mut().map(|(name, count)| {
            *count += 1;
            (*name, *count - 1)
        })
    });
    let Some((name, place)) = asked else { return compute() };
    let answer = {
        let mut all = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.entry(name).or_default();
        if answers.len() == place {
            answers.push(Arc::default());
        }
        answers[place].clone()
    };
    let answer = answer.get_or_init(|| Box::new(compute()));
    answer.downcast_ref::<T>().expect("the same question, and so the same kind of answer").clone()
}
