//! The terminal's mode while a line is edited: keys come one by one, unechoed, Ctrl-C among them.

use std::io;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// The mode lasts until this is dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// # Errors
    /// Standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON;
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        // A read waits for one byte and gives what there is.
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed meanwhile is kept.
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal is gone where this fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows; the usual ones where the terminal does not know.
pub(crate) fn terminal_size() -> (usize, usize) {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => (80, 24),
    }
}

/// What the terminal has for us, at least one byte; none when it is gone.
pub(crate) fn read_bytes() -> io::Result<Vec<u8>> {
    let mut chunk = [0u8; 4096];
    loop {
        // Not by std's reader: its buffer would hide what is typed from everyone else who reads standard input.
        match rustix::io::read(io::stdin(), &mut chunk) {
            Ok(length) => return Ok(chunk[..length].to_vec()),
            Err(rustix::io::Errno::INTR) => {}
            // A terminal that hangs up.
            Err(rustix::io::Errno::IO) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}
