//! Credentials: no token stands for another than it was made for, and nothing else that comes with a call does.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kalamdb_tests::{Http, SqlError};

use super::{Attacker, MARKER, Scene, VICTIM};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_stands_for_another_than_it_was_made_for() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let parts = |token: &str| -> Vec<String> { token.split('.').map(str::to_owned).collect() };
    let claims = |part: &str| -> serde_json::Value {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&bytes).expect("claims")
    };
    let encoded = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let theirs = parts(scene.victim.token());
    let select = "SELECT max(v) FROM filled.mixed WHERE id < 900";
    for Attacker { role, client } in &scene.attackers {
        let own = parts(client.token());
        let named = encoded(&serde_json::json!({"typ": "JWT", "alg": "none"}));
        // The victim's claims and each of them by itself in the attacker's.
        let mut said: Vec<String> = vec![theirs[1].clone()];
        let victims = claims(&theirs[1]);
        for (name, value) in victims.as_object().expect("claims") {
            let mut changed = claims(&own[1]);
            if changed[name] != *value {
                changed[name] = value.clone();
                said.push(encoded(&changed));
            }
        }
        assert!(said.len() >= 4, "user, scope and session differ: {victims}");
        for said in said {
            for token in [
                format!("{}.{said}.{}", own[0], own[2]),
                format!("{}.{said}.{}", own[0], theirs[2]),
                format!("{named}.{said}."),
                format!("{named}.{said}.{}", own[2]),
                format!("{}.{said}.", own[0]),
            ] {
                if token == scene.victim.token() {
                    continue;
                }
                let reply = Http::bearer(scene.server.http, &token).sql(select);
                assert_eq!(reply.status, 401, "{role}: {}", reply.text());
                let mut flight = client.flight.clone();
                flight.set_token(token);
                let refused = flight.execute(select.to_owned(), None).await;
                let error = SqlError::from(refused.expect_err("the token is no good"));
                assert_eq!(error.code(), "UNAUTHENTICATED", "{role}: {error}");
            }
        }
        let http = Http::basic(scene.server.http, VICTIM, "a password for the tesT");
        assert_eq!(http.sql(select).status, 401, "{role}");
    }
    // As it was made, it is good.
    let reply = Http::bearer(scene.server.http, scene.victim.token()).sql(select);
    assert!(reply.text().contains(MARKER), "{}", reply.text());
    scene.check_undisturbed(&before).await;
}

/// What some servers take a caller's name or session from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_stands_for_anybody() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let session = scene
        .victim
        .value("SELECT session_id FROM system.queries WHERE status = 'running'")
        .await;
    let basic = |user: &str| {
        let credentials = base64::prelude::BASE64_STANDARD.encode(format!("{user}:"));
        format!("Basic {credentials}")
    };
    let own = |name: &str| name.to_owned();
    let headers = [
        (
            "cookie",
            format!("session_id={session}; arrow_flight_session_id={session}; user={VICTIM}"),
        ),
        ("x-arrow-flight-session-id", session.clone()),
        ("session-id", session.clone()),
        ("x-forwarded-user", own(VICTIM)),
        ("x-remote-user", own(VICTIM)),
        ("user", own(VICTIM)),
        ("username", own(VICTIM)),
        ("x-kalamdb-user", own(VICTIM)),
        ("on-behalf-of", own(VICTIM)),
        ("proxy-authorization", format!("Bearer {}", scene.victim.token())),
        ("token", scene.victim.token().to_owned()),
        // A second one beside one's own.
        ("authorization", basic(VICTIM)),
        ("authorization", basic("root")),
    ];
    let select =
        "SELECT CURRENT_USER, (SELECT max(v) FROM filled.mixed WHERE id < 900), (SELECT max(v) FROM copied.hot)";
    let ask = async |client: &kalamdb_tests::Client, name: &str, value: &str| -> Result<String, SqlError> {
        let mut descriptor = client.authorized(arrow_flight::FlightDescriptor::new_cmd(select));
        let mut told = String::new();
        let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes()).expect("a name");
        descriptor.metadata_mut().append(name, value.parse().expect("ASCII"));
        let metadata = descriptor.metadata().clone();
        let info = client.raw().get_flight_info(descriptor).await?.into_inner();
        let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
        let mut redeem = tonic::Request::new(ticket);
        *redeem.metadata_mut() = metadata;
        let mut rows = client.raw().do_get(redeem).await?.into_inner();
        while let Some(message) = rows.message().await? {
            told.push_str(&String::from_utf8_lossy(&message.data_body));
        }
        Ok(told)
    };
    let mut wrong = Vec::new();
    for (name, value) in &headers {
        for Attacker { role, client } in &scene.attackers {
            match ask(client, name, value).await {
                Ok(told) if told.contains(MARKER) || !told.contains(&format!("mallory_{role}")) => {
                    wrong.push(format!("{role} with {name}: {told}"));
                }
                Err(error) if error.code() != "UNAUTHENTICATED" => wrong.push(format!("{role} with {name}: {error}")),
                Ok(_) | Err(_) => {}
            }
        }
        // What the victim says of themselves is in `authorization` alone.
        if *name != "authorization" {
            let told = ask(&scene.victim, name, value).await.expect("it is let through");
            assert!(told.contains(MARKER) && told.contains(VICTIM), "the control: {told}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}
