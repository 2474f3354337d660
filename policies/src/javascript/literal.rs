//! What literals stand for, and the encodings scripts use to write them otherwise.

/// The name an identifier stands for: `\u0065val` is `eval`.
pub(super) fn unescape_identifier(text: &str) -> String {
    if text.contains('\\') { unescape(text) } else { text.to_owned() }
}

/// Resolves the escapes of a string literal.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut buffer = [0; 2];
    while let Some(c) = rest.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut buffer));
            continue;
        }
        let Some(c) = rest.next() else { break };
        match c {
            'n' => units.push(10),
            't' => units.push(9),
            'r' => units.push(13),
            'b' => units.push(8),
            'f' => units.push(12),
            'v' => units.push(11),
            '\n' | '\u{2028}' | '\u{2029}' => {}
            'x' => {
                let digits: String = rest.clone().take(2).collect();
                if let Ok(unit) = u16::from_str_radix(&digits, 16) {
                    units.push(unit);
                    rest.nth(1);
                }
            }
            'u' if rest.peek() == Some(&'{') => {
                rest.next();
                let digits: String = rest.by_ref().take_while(|c| *c != '}').take(8).collect();
                if let Some(c) = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32) {
                    units.extend_from_slice(c.encode_utf16(&mut buffer));
                }
            }
            'u' => {
                let digits: String = rest.clone().take(4).collect();
                if let Ok(unit) = u16::from_str_radix(&digits, 16) {
                    units.push(unit);
                    rest.nth(3);
                }
            }
            '0'..='7' => {
                let mut value = u16::try_from(c.to_digit(8).unwrap_or(0)).unwrap_or(0);
                let most = if c <= '3' { 2 } else { 1 };
                for _ in 0..most {
                    match rest.peek().and_then(|c| c.to_digit(8)) {
                        Some(digit) => {
                            value = value * 8 + u16::try_from(digit).unwrap_or(0);
                            rest.next();
                        }
                        None => break,
                    }
                }
                units.push(value);
            }
            other => units.extend_from_slice(other.encode_utf16(&mut buffer)),
        }
    }
    String::from_utf16_lossy(&units)
}

/// The value of a number literal.
pub(super) fn number(text: &str) -> Option<f64> {
    let text: String = text.chars().filter(|c| *c != '_').collect();
    let text = text.strip_suffix('n').unwrap_or(&text);
    let lower = text.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return radix_digits(digits, radix);
        }
    }
    if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return radix_digits(&lower, 8);
    }
    lower.parse().ok()
}

fn radix_digits(digits: &str, radix: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0.0, |value, c| Some(value * f64::from(radix) + f64::from(c.to_digit(radix)?)))
}

/// `parseInt`.
pub(super) fn parse_int(text: &str, radix: u32) -> f64 {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (radix, text) = match (radix, hex) {
        (0 | 16, Some(rest)) => (16, rest),
        (0, None) => (10, text),
        (radix, _) => (radix, text),
    };
    if !(2..=36).contains(&radix) {
        return f64::NAN;
    }
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    text.get(..end).and_then(|digits| radix_digits(digits, radix)).map_or(f64::NAN, |value| sign * value)
}

/// `Number(text)`.
pub(super) fn to_number(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ if text.contains('_') || text.ends_with('n') => f64::NAN,
        _ if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')) => {
            if text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) {
                text.parse().unwrap_or(f64::NAN)
            } else if text.to_ascii_lowercase().contains("inf") || text.eq_ignore_ascii_case("nan") {
                f64::NAN
            } else {
                number(text).or_else(|| text.parse().ok()).unwrap_or(f64::NAN)
            }
        }
        _ => f64::NAN,
    }
}

/// How JavaScript prints a number.
pub(super) fn number_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if value == 0.0 {
        "0".to_owned()
    } else if value.abs() >= 1e21 || value.abs() < 1e-6 {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        }
    } else {
        format!("{value}")
    }
}

/// A number in another base, as `toString(radix)` prints it.
pub(super) fn radix_text(value: f64, radix: u32) -> Option<String> {
    if !(2..=36).contains(&radix) || !value.is_finite() || value.abs() >= 9e15 {
        return None;
    }
    let negative = value < 0.0;
    let mut whole = whole(value.abs())?;
    let mut fraction = value.abs().fract();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(u32::try_from(whole % u64::from(radix)).ok()?, radix)?);
        whole /= u64::from(radix);
        if whole == 0 {
            break;
        }
    }
    if negative {
        digits.push('-');
    }
    let mut text: String = digits.into_iter().rev().collect();
    if fraction > 0.0 {
        text.push('.');
        let mut unit = f64::EPSILON * value.abs().max(1.0) / 2.0;
        for _ in 0..52 {
            fraction *= f64::from(radix);
            unit *= f64::from(radix);
            let mut digit = fraction.floor();
            fraction -= digit;
            let last = fraction < unit || fraction > 1.0 - unit;
            if last && fraction > 0.5 {
                digit += 1.0;
            }
            text.push(char::from_digit(u32::try_from(self::whole(digit)?).ok()?.min(radix - 1), radix)?);
            if last {
                break;
            }
        }
    }
    Some(text)
}

/// A number that is a whole one, cut toward zero; `None` if it is negative, too large, or none.
pub(super) fn whole(value: f64) -> Option<u64> {
    if !(0.0..9e15).contains(&value) {
        return None;
    }
    // A whole number below 2^53 prints without exponent.
    format!("{:.0}", value.trunc()).parse().ok()
}

/// A number as `ToInt32` sees it.
pub(super) fn to_int32(value: f64) -> i32 {
    if !value.is_finite() {
        return 0;
    }
    let modulus = 4_294_967_296.0;
    let wrapped = value.trunc().rem_euclid(modulus);
    let bits = whole(wrapped).and_then(|bits| u32::try_from(bits).ok()).unwrap_or(0);
    bits.cast_signed()
}

/// Decodes base64 in either alphabet; what is not of the alphabet is skipped, as Node does.
pub(super) fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap_or(0));
        }
    }
    bytes
}

/// Encodes as base64.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = (at(0) << 16) | (at(1) << 8) | at(2);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            match DIGITS.get(digit) {
                Some(digit) if index <= chunk.len() => text.push(char::from(*digit)),
                _ => text.push('='),
            }
        }
    }
    text
}

/// Decodes pairs of hexadecimal digits, up to what is none.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map_while(|pair| Some(digit(pair.first()?)? * 16 + digit(pair.get(1)?)?)).collect()
}

/// `unescape` and `decodeURIComponent`: `%65` and, for the former, `%u0065`.
pub(super) fn percent(text: &str, utf8: bool) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let digits = |from: usize, to: usize| text.get(from..to).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let mut buffer = [0; 4];
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let unicode = matches!(bytes.get(at + 1), Some(b'u' | b'U')) && !utf8;
            if unicode && let Some(c) = digits(at + 2, at + 6).and_then(char::from_u32) {
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                at += 6;
                continue;
            }
            if let Some(value) = digits(at + 1, at + 3).and_then(|value| u8::try_from(value).ok()) {
                if utf8 {
                    out.push(value);
                } else {
                    out.extend_from_slice(char::from(value).encode_utf8(&mut buffer).as_bytes());
                }
                at += 3;
                continue;
            }
        }
        out.push(*byte);
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `escape` and `encodeURIComponent`.
pub(super) fn to_percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The bytes a text stands for in an encoding of Node's buffers.
pub(super) fn decode(text: &str, encoding: &str) -> Option<Vec<u8>> {
    Some(match encoding.to_ascii_lowercase().as_str() {
        "" | "utf8" | "utf-8" => text.as_bytes().to_vec(),
        "base64" | "base64url" => base64(text),
        "hex" => hex(text),
        "latin1" | "binary" | "ascii" => text.chars().map(|c| u8::try_from(u32::from(c) & 0xff).unwrap_or(0)).collect(),
        "utf16le" | "utf-16le" | "ucs2" | "ucs-2" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        _ => return None,
    })
}

/// The text bytes stand for in an encoding of Node's buffers.
pub(super) fn encode(bytes: &[u8], encoding: &str) -> Option<String> {
    Some(match encoding.to_ascii_lowercase().as_str() {
        "" | "utf8" | "utf-8" => String::from_utf8_lossy(bytes).into_owned(),
        "base64" => to_base64(bytes),
        "base64url" => to_base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_"),
        "hex" => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        "latin1" | "binary" => bytes.iter().map(|byte| char::from(*byte)).collect(),
        "ascii" => bytes.iter().map(|byte| char::from(*byte & 0x7f)).collect(),
        "utf16le" | "utf-16le" | "ucs2" | "ucs-2" => String::from_utf16_lossy(
            &bytes
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]))
                .collect::<Vec<_>>(),
        ),
        _ => return None,
    })
}
