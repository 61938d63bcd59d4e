use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn number(number: u64) -> Value {
    Value::Int(number.cast_signed())
}

fn refusal(read: Result<Opened, StoreError>) -> Option<Refusal> {
    match read {
        Err(StoreError::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

/// Any reply of a server, a proxy or a script of another program.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        vec(any::<u8>(), 0..8).prop_map(Value::BulkString),
        "[0-9]{1,20}(-[0-9]{1,20})?".prop_map(|number| text(&number)),
        "\\PC{0,8}".prop_map(Value::SimpleString),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
}

proptest! {
    /// An invalid reply only fails the call. A panic in the sweeper would stop the server.
    #[test]
    fn no_reply_causes_a_panic(answer in vec(anything(), 0..12)) {
        let _ = (due(answer.clone()), user_state(answer.clone()), counted(answer.clone()));
        let _ = (opened(answer.clone(), 1), closed(answer.clone()));
        let found = announced(answer.clone(), &[7]);
        prop_assert!(found.is_err() || answer.len() >= 2);
        let _ = answer.iter().cloned().map(deadline).collect::<Vec<_>>();
        let _ = Entries::from_redis_value(Value::Array(answer)).map(history);
    }

    /// A negative count is refused.
    #[test]
    fn the_beginning_of_a_sweep_is_read(
        now in 0..=i64::MAX.cast_unsigned(),
        announced: i64,
        next: i64,
        overdue: i64,
        recheck: Option<u64>,
        former: i64,
        (next_change, next_group, first_message, delicate) in any::<(i64, i64, i64, i64)>(),
    ) {
        let mut answer = vec![number(now), text("17"), text("5-1")];
        answer.extend([announced, 3, next, overdue].map(Value::Int));
        answer.push(recheck.map_or(text("-1"), |place| text(&place.to_string())));
        answer.extend([former, next_change, next_group, first_message, delicate].map(Value::Int));
        let read = due(answer);
        prop_assert_eq!(read.is_ok(), announced >= 0 && overdue >= 0 && delicate >= 0);
        if let Ok(read) = read {
            prop_assert_eq!((read.now.as_millis(), read.epoch), (now, Epoch(17)));
            prop_assert_eq!((read.newest.millis, read.grant), (5, 3));
            prop_assert_eq!(read.announced, announced.cast_unsigned());
            let next = u64::try_from(next).ok();
            prop_assert_eq!(read.next.map(Timestamp::as_millis), next);
            prop_assert_eq!(read.overdue, overdue.cast_unsigned());
            prop_assert_eq!(read.recheck, recheck);
            prop_assert_eq!(read.is_delicate, delicate > 0);
            let former = u64::try_from(former).ok();
            prop_assert_eq!(read.former.map(Timestamp::as_millis), former);
        }
    }

    #[test]
    fn the_outcome_of_a_connect_is_read(
        outcome in "entered|stayed|closed|full|[a-z]{0,8}",
        deadline in 0..=i64::MAX.cast_unsigned(),
    ) {
        let answer = vec![text(&outcome), number(deadline), text("17"), text("message")];
        let read = opened(answer, 7);
        let is_open = |became_online| Opened {
            connected: Connected {
                became_online,
                expires_at: Timestamp::from_millis(deadline),
                not_joined: Vec::new(),
            },
            stamp: Some("17".to_owned()),
            messages: vec!["message".to_owned()],
        };
        match &*outcome {
            "entered" => prop_assert_eq!(read.expect("open"), is_open(true)),
            "stayed" => prop_assert_eq!(read.expect("open"), is_open(false)),
            "closed" => prop_assert_eq!(refusal(read), Some(Refusal::ConnectionClosed)),
            "full" => {
                let full = Refusal::TooManyConnections { most: 7 };
                prop_assert_eq!(refusal(read), Some(full));
            }
            _ => prop_assert!(matches!(read, Err(StoreError::Failed(_)))),
        }
    }

    #[test]
    fn the_state_of_a_user_is_read(
        online: bool,
        last_seen: i64,
        mut connections in vec(("[a-z0-9._~:@-]{1,64}", 0..=i64::MAX.cast_unsigned()), 0..4),
        cut: bool,
    ) {
        let mut answer = vec![number(online.into()), Value::Int(last_seen)];
        answer.extend([text("dnd"), text("{}"), number(7)]);
        for (id, deadline) in &connections {
            let numbers = [*deadline, 7, 60_000, 1, 0].map(number);
            answer.push(text(id));
            answer.extend(numbers);
        }
        if cut {
            answer.pop();
        }
        let read = user_state(answer);
        prop_assert_eq!(read.is_ok(), !cut);
        if let Ok(read) = read {
            let ends = read.status.and_then(|status| status.ends_at);
            prop_assert_eq!(ends, Some(Timestamp::from_millis(7)));
            let seen = read.last_seen_at.map(Timestamp::as_millis);
            prop_assert_eq!((read.online, seen), (online, u64::try_from(last_seen).ok()));
            connections.sort();
            let found = read.connections.iter();
            let found: Vec<_> = found.map(|each| (each.id.to_string(), each.expires_at.as_millis())).collect();
            prop_assert_eq!(found, connections);
        }
    }

    #[test]
    fn indices_refer_to_the_places_of_the_requested_users(
        indices in vec(0_u64..6, 0..6),
        places in vec(any::<usize>(), 0..6),
    ) {
        let found: Vec<_> = indices.iter().copied().map(number).collect();
        let states = vec![text(""); found.len()];
        let answer = vec![text("17"), text("5-1"), Value::Array(found), Value::Array(states)];
        let read = announced(answer, &places);
        let asked = indices.iter().map(|index| places.get(*index as usize).copied());
        let asked: Option<Vec<_>> = asked.collect();
        let found = read.ok().map(|(_, _, found)| found.into_iter().map(|(place, _)| place).collect());
        prop_assert_eq!(found, asked);
    }

    #[test]
    fn only_a_key_that_expires_has_a_deadline(answer: i64) {
        let read = deadline(Value::Int(answer)).expect("a number");
        prop_assert_eq!(read, u64::try_from(answer).ok());
    }
}
