use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// A revision that takes connections or does not.
#[derive(Default)]
struct Switched {
    up: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

impl Reach for Switched {
    async fn reach(&self, _: &str) -> bool {
        self.tries.fetch_add(1, Ordering::Relaxed);
        self.up.load(Ordering::Relaxed)
    }
}

const LIMITS: Limits = Limits { requests_max: REQUESTS_MAX, bytes_max: BYTES_MAX };

fn holder() -> (Arc<Holder<Switched>>, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let reach = Switched::default();
    let (up, tries) = (reach.up.clone(), reach.tries.clone());
    let holder = Holder::new(reach, LIMITS);
    holder.lost("r", "host:80");
    (holder, up, tries)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn until_waiting(holder: &Arc<Holder<Switched>>, wanted: usize) {
    while holder.held().0 != wanted {
        // The clock is paused: it goes on only when everybody waits.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_pod_and_goes_on_when_it_is_there() {
    let (holder, up, _) = holder();
    let waiting = tokio::spawn({
        let holder = holder.clone();
        async move { holder.enter("r", "host:80", 100, soon()).await.map(drop) }
    });
    until_waiting(&holder, 1).await;
    assert_eq!(holder.held(), (1, 100));
    let began = Instant::now();
    up.store(true, Ordering::Relaxed);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert!(began.elapsed() <= TRY_EVERY, "{:?}", began.elapsed());
    assert_eq!(holder.held(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_when_it_passes_and_whoever_goes_away_leaves_no_trace() {
    let (holder, _, tries) = holder();
    let began = Instant::now();
    let late = holder.enter("r", "host:80", 1, began + Duration::from_millis(70)).await.map(drop);
    assert_eq!((late, began.elapsed()), (Err(Turned::Late), Duration::from_millis(70)));
    let gone = tokio::spawn({
        let holder = holder.clone();
        async move { holder.enter("r", "host:80", 1, soon()).await.map(drop) }
    });
    until_waiting(&holder, 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(holder.held(), (0, 0));
    assert_eq!(holder.lock()["r"].queue.len(), 0);
    // Nobody waits: no connection is tried any more.
    tokio::time::sleep(TRY_EVERY * 2).await;
    let before = tries.load(Ordering::Relaxed);
    tokio::time::sleep(TRY_EVERY * 20).await;
    assert_eq!(tries.load(Ordering::Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn each_of_ten_thousand_is_told_at_its_own_deadline_and_those_behind_them_keep_their_places() {
    let (holder, up, _) = holder();
    let (began, mut all) = (Instant::now(), tokio::task::JoinSet::new());
    for number in 0..10_000 {
        let holder = holder.clone();
        all.spawn(async move {
            // Every second of them waits for less than a second, in no order.
            let patience = Duration::from_millis(if number % 2 == 0 { number * 7919 % 1000 } else { 60_000 });
            let outcome = holder.enter("r", "host:80", 10, began + patience).await.map(drop);
            (patience, outcome, began.elapsed())
        });
    }
    for _ in 0..5000 {
        let (patience, outcome, waited) = all.join_next().await.unwrap().unwrap();
        assert_eq!((outcome, waited), (Err(Turned::Late), patience));
    }
    assert_eq!(holder.held(), (5000, 50_000));
    assert!(holder.lock()["r"].queue.len() <= 10_000);
    up.store(true, Ordering::Relaxed);
    while let Some(ended) = all.join_next().await {
        assert_eq!(ended.unwrap().1, Ok(()));
    }
    assert_eq!((holder.held(), holder.lock()["r"].queue.len()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_wait_the_next_is_told_that_there_is_no_room_and_all_go_on() {
    let (holder, up, _) = holder();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_MAX {
        let holder = holder.clone();
        all.spawn(async move { holder.enter("r", "host:80", 1000, soon()).await.map(drop) });
    }
    until_waiting(&holder, REQUESTS_MAX).await;
    assert_eq!(holder.enter("r", "host:80", 1, soon()).await.map(drop), Err(Turned::Full));
    up.store(true, Ordering::Relaxed);
    while let Some(outcome) = all.join_next().await {
        assert_eq!(outcome.unwrap(), Ok(()));
    }
    assert_eq!(holder.held(), (0, 0));
    assert_eq!(holder.demand().revisions["r"].waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn demand_is_told_at_once_and_again_when_it_doubles_and_idleness_counts_from_the_last_end() {
    let (holder, up, _) = holder();
    let first = holder.next_demand(None, Duration::from_secs(10)).await;
    let asked = tokio::spawn({
        let holder = holder.clone();
        async move { holder.next_demand(Some(first.sequence), Duration::from_secs(10)).await }
    });
    let mut waiting = tokio::task::JoinSet::new();
    let began = Instant::now();
    for _ in 0..5 {
        let holder = holder.clone();
        waiting.spawn(async move { holder.enter("r", "host:80", 1, soon()).await });
    }
    let told = asked.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(told.revisions["r"].waiting >= 1);
    until_waiting(&holder, 5).await;
    // One, three, then five would be no news: more than twice as many is.
    assert_eq!(holder.demand().sequence, first.sequence + 2);

    up.store(true, Ordering::Relaxed);
    let mut passes = Vec::new();
    while let Some(pass) = waiting.join_next().await {
        passes.push(pass.unwrap().unwrap());
    }
    let running = holder.demand().revisions["r"].clone();
    assert_eq!((running.waiting, running.running, running.idle_seconds), (0, 5, 0));
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop(passes);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(holder.demand().revisions["r"].idle_seconds, 7);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_disappears_while_requests_go_on_has_the_others_wait_for_the_next() {
    let (holder, up, _) = holder();
    let (over, done) = (Arc::new(AtomicUsize::new(0)), tokio::sync::watch::Sender::new(false));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (holder, over, mut done) = (holder.clone(), over.clone(), done.subscribe());
        all.spawn(async move {
            let pass = holder.enter("r", "host:80", 1, soon()).await.unwrap();
            done.wait_for(|done| *done).await.unwrap();
            over.fetch_add(1, Ordering::Relaxed);
            drop(pass);
        });
    }
    until_waiting(&holder, 200).await;
    up.store(true, Ordering::Relaxed);
    // The first window is under way.
    until_waiting(&holder, 200 - 32).await;
    up.store(false, Ordering::Relaxed);
    holder.lost("r", "host:80");
    done.send_replace(true);
    while over.load(Ordering::Relaxed) < 32 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(holder.held().0, 200 - 32);
    up.store(true, Ordering::Relaxed);
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
    assert_eq!(over.load(Ordering::Relaxed), 200);
}
