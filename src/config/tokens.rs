//! Files of tokens: one a line, its first word; what follows is for people.

/// A token that is shorter could be guessed.
pub const TOKEN_LENGTH_MIN: usize = 16;

/// The tokens of a file's `text` that let somebody in.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    first_words(text).filter(|word| word.len() >= TOKEN_LENGTH_MIN)
}

/// How many of its lines let nobody in, since their token is too short.
#[must_use]
pub fn short_tokens(text: &str) -> usize {
    first_words(text).filter(|word| word.len() < TOKEN_LENGTH_MIN).count()
}

fn first_words(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| !word.starts_with('#'))
}
