//! The life of the certificates, told by days; no clock and no cluster.

use std::time::{Duration, SystemTime};

use rstest::rstest;

use super::issue::carry_out;
use super::plan::{self, Contents, Step, Why, plan};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

fn names() -> Vec<String> {
    vec!["muster-webhook.muster-system.svc".into(), "muster-webhook".into(), "127.0.0.1".into()]
}

/// The contents after every step that is due at `now`, which must be these.
fn after(contents: &Contents, now: SystemTime, steps: &[Step]) -> Contents {
    let mut contents = contents.clone();
    for step in steps {
        assert_eq!(plan(&contents, &names(), now), *step);
        contents = carry_out(*step, &contents, &names(), now).unwrap();
    }
    assert_eq!(plan(&contents, &names(), now), Step::Keep);
    contents
}

fn fresh() -> Contents {
    after(&Contents::default(), start(), &[Step::RotateCa(Why::Unreadable)])
}

fn accepted(contents: &Contents, bundle: &str, now: SystemTime) -> bool {
    plan::serving(&Contents { bundle: bundle.to_owned(), ..contents.clone() }, &names(), now).is_ok()
}

#[test]
fn an_empty_secret_is_filled_in_one_step_and_served_under_every_name() {
    let contents = fresh();
    assert!(accepted(&contents, &contents.bundle, start()));
    assert_eq!(plan::authorities(&contents.bundle).len(), 1);
}

#[rstest]
#[case::on_the_next_day(1, Step::Keep)]
#[case::before_two_thirds_of_a_year(243, Step::Keep)]
#[case::after_two_thirds_of_a_year(244, Step::RenewServing(Why::Aging))]
#[case::after_a_year_without_an_operator(366, Step::RenewServing(Why::Expired))]
#[case::after_two_thirds_of_ten_years(2434, Step::RotateCa(Why::Aging))]
#[case::after_ten_years(3651, Step::RotateCa(Why::Expired))]
fn each_step_is_due_in_its_time(#[case] days: u32, #[case] expected: Step) {
    assert_eq!(plan(&fresh(), &names(), start() + DAY * days), expected);
}

#[test]
fn a_clock_before_the_certificates_makes_new_ones() {
    assert_eq!(plan(&fresh(), &names(), start() - DAY), Step::RotateCa(Why::Expired));
}

#[test]
fn renewing_keeps_the_authority_so_nobody_has_to_learn_anything() {
    let (old, later) = (fresh(), start() + DAY * 244);
    let new = after(&old, later, &[Step::RenewServing(Why::Aging)]);
    assert_eq!((&new.bundle, &new.ca_key), (&old.bundle, &old.ca_key));
    assert_ne!(new.cert, old.cert);
    assert!(accepted(&new, &old.bundle, later));
}

#[test]
fn a_new_authority_joins_the_bundle_long_before_it_signs() {
    let mut old = fresh();
    let aging = start() + DAY * 2434;
    // A serving certificate in mid-life, as a well-kept Secret has one.
    let renewed = start() + DAY * 2400;
    old = carry_out(Step::RenewServing(Why::Aging), &old, &names(), renewed).unwrap();

    let rotated = after(&old, aging, &[Step::RotateCa(Why::Aging)]);
    assert_eq!((&rotated.cert, &rotated.key), (&old.cert, &old.key), "the certificate stays as it is");
    assert!(rotated.bundle.ends_with(&old.bundle), "the old authority stays behind the new one");
    assert!(accepted(&rotated, &old.bundle, aging) && accepted(&rotated, &rotated.bundle, aging));

    let signed_at = start() + DAY * 2644;
    let signed = after(&rotated, signed_at, &[Step::RenewServing(Why::Aging)]);
    assert!(accepted(&signed, &rotated.bundle, signed_at), "who learned the bundle in time trusts the new certificate");
    assert!(!accepted(&signed, &old.bundle, signed_at), "and it is the new authority that signed");
}

#[test]
fn a_new_authority_does_not_sign_before_its_bundle_can_be_known_everywhere() {
    let old = fresh();
    // Both are due at once: the serving certificate was renewed two thirds of a year before.
    let both = start() + DAY * 2434;
    let old = carry_out(Step::RenewServing(Why::Aging), &old, &names(), both - DAY * 250).unwrap();
    let rotated = after(&old, both, &[Step::RotateCa(Why::Aging)]);
    assert_eq!(plan(&rotated, &names(), both + Duration::from_secs(299)), Step::Keep);
    assert_eq!(plan(&rotated, &names(), both + Duration::from_secs(300)), Step::RenewServing(Why::Aging));
}

#[test]
fn an_authority_whose_time_is_over_leaves_the_bundle() {
    let old = fresh();
    let rotated = after(&old, start() + DAY * 3000, &[Step::RotateCa(Why::Aging)]);
    assert_eq!(plan::authorities(&rotated.bundle).len(), 2);
    let late = after(&rotated, start() + DAY * 3700, &[Step::RenewServing(Why::Expired)]);
    assert_eq!(plan::authorities(&late.bundle).len(), 1);
}

#[rstest]
#[case::no_bundle(|c: &mut Contents| c.bundle.clear(), Step::RotateCa(Why::Unreadable))]
#[case::no_key_of_the_authority(|c: &mut Contents| c.ca_key.clear(), Step::RotateCa(Why::Unreadable))]
#[case::somebody_elses_key(|c: &mut Contents| c.ca_key = fresh().ca_key, Step::RotateCa(Why::Unreadable))]
#[case::rubbish(|c: &mut Contents| c.bundle = "rubbish".into(), Step::RotateCa(Why::Unreadable))]
#[case::no_certificate(|c: &mut Contents| c.cert.clear(), Step::RenewServing(Why::Unreadable))]
#[case::no_key(|c: &mut Contents| c.key.clear(), Step::RenewServing(Why::Unreadable))]
#[case::a_key_of_another_certificate(|c: &mut Contents| c.key = fresh().key, Step::RenewServing(Why::Unreadable))]
#[case::a_certificate_of_another_authority(
    |c: &mut Contents| { let other = fresh(); (c.cert, c.key) = (other.cert, other.key); },
    Step::RenewServing(Why::Untrusted)
)]
fn whatever_is_broken_is_made_again(#[case] breakage: fn(&mut Contents), #[case] step: Step) {
    let mut contents = fresh();
    breakage(&mut contents);
    let mended = after(&contents, start() + DAY, &[step]);
    assert!(accepted(&mended, &mended.bundle, start() + DAY));
}

#[test]
fn losing_the_authoritys_key_does_not_disturb_a_certificate_that_is_still_trusted() {
    let old = fresh();
    let broken = Contents { ca_key: String::new(), ..old.clone() };
    let mended = after(&broken, start() + DAY, &[Step::RotateCa(Why::Unreadable)]);
    assert_eq!(mended.cert, old.cert);
    assert!(accepted(&mended, &old.bundle, start() + DAY));
}

#[test]
fn a_new_name_is_a_reason_to_renew() {
    let mut more = names();
    more.push("operator.example.com".into());
    let step = plan(&fresh(), &more, start());
    assert_eq!(step, Step::RenewServing(Why::Untrusted));
    let renewed = carry_out(step, &fresh(), &more, start()).unwrap();
    assert_eq!(plan(&renewed, &more, start()), Step::Keep);
}

#[rstest]
#[case::in_the_cluster(None, &["hook.ns.svc", "hook"])]
#[case::outside_by_address(Some("https://127.0.0.1:9443"), &["127.0.0.1", "hook.ns.svc", "hook"])]
#[case::outside_by_name(Some("https://muster.example.com/base"), &["muster.example.com", "hook.ns.svc", "hook"])]
#[case::outside_by_v6_address(Some("https://[::1]:9443"), &["::1", "hook.ns.svc", "hook"])]
fn names_are_what_the_api_server_may_ask_for(#[case] url: Option<&str>, #[case] expected: &[&str]) {
    assert_eq!(settings(url).names().unwrap(), expected);
}

#[test]
fn a_url_without_a_host_is_refused_with_an_example() {
    let message = "webhook URL \"/mutate\" has no host; give one like https://10.0.0.7:9443";
    assert_eq!(settings(Some("/mutate")).names().unwrap_err().to_string(), message);
}

fn settings(url: Option<&str>) -> super::Settings {
    super::Settings {
        namespace: "ns".into(),
        secret: "certs".into(),
        service: "hook".into(),
        url: url.map(str::to_owned),
        mutating: Vec::new(),
        validating: Vec::new(),
    }
}
