use super::*;
use rustix::event::{EventfdFlags, eventfd};

fn header(request: u32, flags: u32, len: u32) -> [u8; HEADER_LEN] {
    let bytes = Record::new().u32(request).u32(flags).u32(len).done();
    bytes.try_into().unwrap()
}

/// A message of zeros, as long as may be, with as many descriptors as may be.
fn zeros(request: Request) -> Message {
    let rule = request.rule();
    let payload_len = (0..=4108).rev().find(|len| rule.payload.accepts(*len)).unwrap();
    let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let fds = (0..*rule.fds.end()).map(|_| event()).collect();
    Message {
        header: Header { request, answer: Answer::Unwanted, payload_len },
        payload: vec![0; payload_len],
        fds,
    }
}

#[test]
fn a_header_is_version_1_and_no_reply() {
    let decode = |flags| Header::decode(&header(1, flags, 0)).map(|header| header.answer);
    assert_eq!(decode(1).unwrap(), Answer::Unwanted);
    assert_eq!(decode(9).unwrap(), Answer::Wanted);
    for flags in [0, 2, 3, 5, 13, 17, 0x101] {
        assert!(matches!(decode(flags), Err(WireError::Flags(found)) if found == flags), "{flags:#x}");
    }
}

#[test]
fn row64_a_length_is_judged_before_the_payload_comes() {
    for request in Request::ALL {
        let rule = request.rule();
        for len in (0..5000).chain([u32::MAX as usize]) {
            let outcome = Header::decode(&header(*request as u32, 1, len as u32));
            assert_eq!(outcome.is_ok(), rule.payload.accepts(len), "{request:?} {len}");
        }
        assert!(!rule.payload.accepts(MAX_CONFIG_LEN + 13));
    }
}

/// Every request has its place among the commands, and survives zeros.
#[test]
fn every_request_is_taken_apart() {
    for request in Request::ALL {
        let name = format!("{request:?}");
        let outcome = Command::decode(zeros(*request));
        match request {
            // No regions are announced where descriptors come, and a ring has a descriptor where it is not said that none comes.
            Request::SetMemTable => assert!(matches!(outcome, Err(WireError::Descriptors { .. }))),
            // No bytes are announced.
            Request::GetConfig | Request::SetConfig => {
                assert!(matches!(outcome, Err(WireError::Field { .. })))
            }
            _ => assert!(format!("{:?}", outcome.unwrap()).starts_with(&name), "{name}"),
        }
    }
}

/// What one end writes, the other reads: the same bytes, and as many descriptors.
#[test]
fn a_command_is_encoded_as_it_is_decoded() {
    let counting = |len: usize| (1..=len).map(|byte| byte as u8).collect::<Vec<u8>>();
    for request in Request::ALL {
        let mut message = zeros(*request);
        match request {
            Request::SetVringAddr | Request::AddMemReg | Request::GetInflightFd | Request::SetLogBase => {
                message.payload = counting(message.payload.len());
            }
            Request::GetConfig | Request::SetConfig => {
                message.payload = Record::new().u32(3).u32(5).u32(1).bytes(&[0; 5]).done();
            }
            Request::SetMemTable => {
                let regions = counting(2 * 32);
                message.payload = Record::new().u32(2).u32(0).bytes(&regions).done();
                message.fds.truncate(2);
            }
            Request::SetVringKick | Request::SetVringCall => {
                message.payload = (7u64 | 1 << 8).to_ne_bytes().to_vec();
                message.fds.clear();
            }
            _ => {}
        }
        if *request == Request::AddMemReg {
            // Of padding nothing is kept.
            message.payload.splice(..8, [0; 8]);
        }
        // The descriptor that comes with it is closed, and none is sent.
        let fds = if *request == Request::RemMemReg { 0 } else { message.fds.len() };
        // What pads the structure for C is not kept either.
        let padded = matches!(request, Request::GetInflightFd);
        let mut payload = message.payload.clone();
        if padded {
            payload.splice(20.., [0; 4]);
        }
        let command = Command::decode(message).unwrap();
        let (found, bytes, files) = command.encode();
        assert_eq!((found, bytes, files.len()), (*request, payload, fds), "{command:?}");
    }
}

#[test]
fn a_reply_is_version_1_with_the_reply_bit() {
    assert_eq!(reply(Request::GetFeatures, &[1, 2]), [header(1, 5, 2).as_slice(), &[1, 2]].concat());
    let request = backend_request(BackendRequest::RingCall, Answer::Wanted, &[]);
    assert_eq!(request, header(4, 9, 0));
}
