use super::*;
use PasswordAlgorithm::*;

/// What passlib 1.7.4 made of this password.
const WORD: &str = "Grüße, 1!";
const OF_WORD: [&str; 6] = [
    "$2b$04$IJQjCRozRDrSAa/b0xlll.D1gPhuFKTWVfzprWLw7x3smH6q4VKbi",
    "$bcrypt-sha256$v=2,t=2b,r=4$D08/t.haVYNiEt9tR0Yj9.$yV5PWM0sP3oDenF1vN2pAft4g9Lk1ti",
    "$bcrypt-sha256$2b,4$IyQC2bMOVgS2V1lj/V14g.$XaRnkkWe5F14q2Nti3LHaNQGvK1s9kq",
    "$scrypt$ln=4,r=8,p=1$l7I2xnhvjTFGCMFYy1nr/Q$OH8ky1B6XuViFKxI0dr+pOUExn/cFhNYHgmBsynQh/Q",
    "$scrypt$ln=4,r=8,p=1$m1MKoVRqzZlzTsk$QoS+3Prn+WaqQT/xvNmlWc6lrLodDqrmeTHJzvr6e/Q",
    "$pbkdf2-sha512$10$nFMqBUAIoXQu5XwvZWyttQ$ypR1RTD98HaqIdn/1Tr64M10pqHlvpjLGUVSzezJnxFK.Y.Ukpk5KHygzjM/LChDtp16mx11GJbhAE59SaL0aw",
];
/// And of 80 times `x`.
const OF_LONG: &str = "$2b$04$w7N/qZYViqdxOqTAxIoFQeHJ2Z3uuTrwjAEAllMz9sG/xllkmD45a";

fn hasher(algorithm: PasswordAlgorithm, rounds: u32) -> Hasher {
    Hasher::new(Scheme::new(algorithm, rounds, 8, 1).unwrap(), 2)
}

#[tokio::test]
async fn hashes_from_keystone_are_good_here() {
    let h = hasher(Bcrypt, 4);
    for stored in OF_WORD {
        let stored = PasswordHash(stored.into());
        assert!(h.verify(WORD, Some(&stored)).await.unwrap(), "{}", stored.0);
        for wrong in ["Grüße, 1", "Grüße, 1! ", "grüße, 1!", ""] {
            assert!(!h.verify(wrong, Some(&stored)).await.unwrap(), "{}", stored.0);
        }
    }
    let plus = OF_WORD[5].replace('.', "+");
    assert!(h.verify(WORD, Some(&PasswordHash(plus))).await.unwrap(), "as Keystone itself writes it");
    // As upstream: bcrypt has seen 72 bytes of it.
    let long = PasswordHash(OF_LONG.into());
    assert!(h.verify(&"x".repeat(80), Some(&long)).await.unwrap());
    assert!(h.verify(&"x".repeat(72), Some(&long)).await.unwrap());
    assert!(!h.verify(&"x".repeat(71), Some(&long)).await.unwrap());
}

#[tokio::test]
async fn every_algorithm_both_ways() {
    for (algorithm, rounds, begins) in [
        (Bcrypt, 4, "$2b$04$"),
        (BcryptSha256, 4, "$bcrypt-sha256$v=2,t=2b,r=4$"),
        (Scrypt, 4, "$scrypt$ln=4,r=8,p=1$"),
        (Pbkdf2Sha512, 10, "$pbkdf2-sha512$10$"),
    ] {
        let h = hasher(algorithm, rounds);
        let (one, two) = (h.hash("s3cr3t").await.unwrap(), h.hash("s3cr3t").await.unwrap());
        assert!(one.starts_with(begins) && one != two, "{one}");
        assert!(h.verify("s3cr3t", Some(&PasswordHash(one))).await.unwrap());
        assert!(!h.verify("S3cr3t", Some(&PasswordHash(two))).await.unwrap());
        let before = h.done();
        assert!(!h.verify("nobody", None).await.unwrap());
        assert_eq!(h.done(), before + 1, "nobody costs a hash");
        // Every byte counts, up to the longest.
        for len in [72, 73, MAX_LEN] {
            let long = "x".repeat(len);
            let stored = PasswordHash(h.hash(&long).await.unwrap());
            assert!(h.verify(&long, Some(&stored)).await.unwrap());
            assert!(!h.verify(&long[1..], Some(&stored)).await.unwrap(), "{algorithm:?} of {len}");
        }
    }
}

#[tokio::test]
async fn what_earlier_versions_wrote() {
    let h = hasher(Bcrypt, 4);
    let long = "x".repeat(100);
    let short = hex::encode(Sha256::digest(long.as_bytes()));
    let stored = PasswordHash(format!("long${}", bcrypt::hash(short, 4).unwrap()));
    assert!(h.verify(&long, Some(&stored)).await.unwrap());
    assert!(!h.verify(&long[1..], Some(&stored)).await.unwrap());
}

#[tokio::test]
async fn broken_hashes_hold_no_password() {
    let h = hasher(Bcrypt, 4);
    for stored in [
        "",
        "$",
        "plain",
        "$1$x$y",
        "$bcrypt-sha256$",
        "$bcrypt-sha256$v=3,t=2b,r=4$a$b",
        "$scrypt$ln=4,r=8$a$b",
        "$scrypt$ln=4,r=8,p=1$m1MKoVRqzZlzTsk$",
        "$pbkdf2-sha512$10$$",
        "$pbkdf2-sha512$ten$nFMq$ypR1",
    ] {
        assert!(!h.verify("", Some(&PasswordHash(stored.into()))).await.unwrap(), "{stored}");
    }
    assert!(Scheme::new(Bcrypt, 3, 8, 1).is_err() && Scheme::new(Scrypt, 16, 0, 1).is_err());
}

#[tokio::test]
async fn drawn_secrets_cost_nothing_when_right() {
    let h = hasher(Bcrypt, 4);
    let drawn = PasswordHash(hash_drawn("abc"));
    assert!(h.verify("abc", Some(&drawn)).await.unwrap());
    assert_eq!(h.done(), 0);
    assert!(!h.verify("abd", Some(&drawn)).await.unwrap());
    assert_eq!(h.done(), 1, "a wrong one is told from an unknown one by nothing");
}

#[test]
fn pbkdf2_grows_as_upstreams_does() {
    let scheme = |rounds| Scheme::new(Pbkdf2Sha512, rounds, 8, 1).unwrap();
    assert!(scheme(11).outgrew(OF_WORD[5]) && !scheme(10).outgrew(OF_WORD[5]));
    assert!(!scheme(11).outgrew(OF_WORD[0]));
    assert!(!Scheme::new(Bcrypt, 12, 8, 1).unwrap().outgrew(OF_WORD[5]));
}

#[tokio::test]
async fn who_stopped_waiting_is_not_hashed_for() {
    let h = Arc::new(Hasher::new(Scheme::new(Bcrypt, 9, 8, 1).unwrap(), 1));
    let storm: Vec<_> = (0..50)
        .map(|_| {
            let h = h.clone();
            tokio::spawn(async move { h.hash("x").await })
        })
        .collect();
    while h.done() == 0 {
        tokio::task::yield_now().await;
    }
    for task in &storm {
        task.abort();
    }
    for task in storm {
        let _ = task.await;
    }
    h.hash("y").await.unwrap();
    assert!(h.done() < 10, "{}", h.done());
}

#[tokio::test]
async fn hashing_gives_way_to_everything_else() {
    let h = hasher(Bcrypt, 4);
    h.hash("x").await.unwrap();
    let nice = |stat: &str| -> i32 {
        // After the name, which is in parentheses: the 17th field.
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let own = nice(&std::fs::read_to_string("/proc/thread-self/stat").unwrap());
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok());
    let hashing: Vec<i32> = stats.filter(|s| s.contains("(hash-")).map(|s| nice(&s)).collect();
    assert!(!hashing.is_empty() && hashing.iter().all(|n| *n > own || *n == 19), "{own}: {hashing:?}");
}
