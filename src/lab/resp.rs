//! The wire format (RESP2), both ways. Pure.

use crate::cluster::{Command, Reply, ServerError};

/// Appends `command` as it goes over the wire.
pub(super) fn encode(command: &Command, wire: &mut Vec<u8>) {
    header(b'*', command.words().len(), wire);
    for word in command.words() {
        header(b'$', word.len(), wire);
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
}

fn header(sign: u8, length: usize, wire: &mut Vec<u8>) {
    wire.push(sign);
    wire.extend_from_slice(length.to_string().as_bytes());
    wire.extend_from_slice(b"\r\n");
}

/// Something on the wire that is not RESP2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// Reads one reply from the start of `wire`: the reply and its length, or `None` while it is not whole.
pub(super) fn decode(wire: &[u8]) -> Result<Option<(Reply, usize)>, Garbled> {
    let Some(end) = wire.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = wire.get(1..end).ok_or(Garbled)?;
    let after = end + 2;
    let number = || std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(Garbled);
    match wire[0] {
        b'+' => Ok(Some((Reply::Bytes(line.to_vec()), after))),
        b'-' => Ok(Some((Reply::Error(error(line)), after))),
        b':' => Ok(Some((Reply::Int(number()?), after))),
        b'$' => match usize::try_from(number()?) {
            Err(_) => Ok(Some((Reply::Nil, after))),
            Ok(length) if wire.len() < after + length + 2 => Ok(None),
            Ok(length) => Ok(Some((Reply::Bytes(wire[after..after + length].to_vec()), after + length + 2))),
        },
        b'*' => match usize::try_from(number()?) {
            Err(_) => Ok(Some((Reply::Nil, after))),
            Ok(length) => list(wire, after, length),
        },
        _ => Err(Garbled),
    }
}

fn list(wire: &[u8], start: usize, length: usize) -> Result<Option<(Reply, usize)>, Garbled> {
    let mut items = Vec::with_capacity(length.min(4096));
    let mut read = start;
    for _ in 0..length {
        match decode(&wire[read..])? {
            None => return Ok(None),
            Some((item, taken)) => {
                items.push(item);
                read += taken;
            }
        }
    }
    Ok(Some((Reply::List(items), read)))
}

fn error(line: &[u8]) -> ServerError {
    let line = String::from_utf8_lossy(line);
    let (code, message) = line.split_once(' ').unwrap_or((&line, ""));
    ServerError { code: code.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_words() {
        let mut wire = Vec::new();
        encode(&Command::new("SET a").bytes(*b"x\r\n"), &mut wire);
        assert_eq!(wire, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nx\r\n\r\n");
    }

    #[test]
    fn every_reply_is_read_once_it_is_whole_and_not_before() {
        let moved = ServerError { code: "MOVED".into(), message: "7 127.0.0.1:7001".into() };
        let cases: [(&[u8], Reply); 6] = [
            (b"+OK\r\n", Reply::Bytes(b"OK".to_vec())),
            (b":-7\r\n", Reply::Int(-7)),
            (b"$4\r\na\r\nb\r\n", Reply::Bytes(b"a\r\nb".to_vec())),
            (b"$-1\r\n", Reply::Nil),
            (b"-MOVED 7 127.0.0.1:7001\r\n", Reply::Error(moved)),
            (
                b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
                Reply::List(vec![Reply::Int(1), Reply::List(vec![Reply::Bytes(vec![])])]),
            ),
        ];
        for (wire, reply) in cases {
            assert_eq!(decode(wire), Ok(Some((reply, wire.len()))));
            for end in 0..wire.len() {
                assert_eq!(decode(&wire[..end]), Ok(None), "{:?}", wire[..end].escape_ascii().to_string());
            }
        }
        assert_eq!(decode(b"HTTP/1.1 400\r\n"), Err(Garbled));
    }
}
