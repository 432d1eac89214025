//! Repeats the bodies of small innermost loops, so that a pass through the loop looks at the deadline once for several turns.
//!
//! Each loop of a policy compares the epoch with its deadline, on its way there once a turn, and where the deadline is over it calls
//! the host. That call is never made, yet it takes all registers with it, so that Cranelift keeps what a loop carries from turn to turn
//! in memory: a scan of 16384 slots ran five times as long as natively (`wasmtime` issue 7244; measured with and without). Eight
//! turns between two looks cost as good as nothing, and a loop can still not run on unseen: every way around it passes the look.
//!
//! ```text
//! loop L           block X
//!   BODY             loop L
//! end                  block  BODY, with `br L` for the end of this block;  br X  end     as often as wanted, but for one
//!                      BODY
//!                    end
//!                  end
//! ```

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, utils};
use wasm_encoder::{BlockType, CodeSection, Component, Instruction};
use wasmparser::{FunctionBody, Operator, Parser, Validator};

/// Which code this makes: another number where anything below changes, so that nobody goes on with what was compiled before.
pub(super) const WAY: u32 = 1;

/// Turns between two looks at the deadline, at most.
const TURNS_MAX: usize = 8;
/// Instructions that a loop may grow to.
const GROWN_MAX: usize = 256;
/// Instructions of a function beyond which it stays as it is: an interpreter's great loop, which takes long enough to compile.
const FUNCTION_MAX: usize = 20_000;

/// `component` with its loops unrolled. What is not valid comes back as it is: the compiler says better what is wrong.
pub(super) fn unroll(component: Vec<u8>) -> Vec<u8> {
    if Validator::new().validate_all(&component).is_err() {
        return component;
    }
    let mut unrolled = Component::new();
    match Unroll.parse_component(&mut unrolled, Parser::new(0), &component) {
        Ok(()) => unrolled.finish(),
        Err(_) => component,
    }
}

struct Unroll;

impl Reencode for Unroll {
    type Error = std::convert::Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Self::Error>> {
        let operators = body.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let loops = if operators.len() > FUNCTION_MAX { Vec::new() } else { innermost_loops(&operators) };
        let instructions =
            operators.into_iter().map(|operator| self.instruction(operator)).collect::<Result<Vec<_>, _>>()?;
        let mut function = utils::new_function_with_parsed_locals(self, &body)?;
        for instruction in &with_repeated(&instructions, &loops) {
            function.instruction(instruction);
        }
        code.function(&function);
        Ok(())
    }
}

impl ReencodeComponent for Unroll {}

/// Where a loop begins, and where its `end` is.
#[derive(Debug, PartialEq, Eq)]
struct Loop {
    begin: usize,
    end: usize,
}

/// The loops worth unrolling, in their order: small ones without loops or calls in them, which take nothing from the stack. What a
/// call costs is more than the look, and the callee has a look of its own.
fn innermost_loops(operators: &[Operator<'_>]) -> Vec<Loop> {
    let mut found = Vec::new();
    // Where what is open began, and which of it may be repeated: only the innermost loop ever, until something speaks against it.
    let (mut open, mut candidate) = (Vec::new(), None);
    for (at, operator) in operators.iter().enumerate() {
        match operator {
            Operator::Loop { blockty } => {
                open.push(at);
                candidate = (!matches!(blockty, wasmparser::BlockType::FuncType(_))).then_some(at);
            }
            Operator::Block { .. } | Operator::If { .. } => open.push(at),
            Operator::End => {
                // The last `end` closes the function.
                let Some(begin) = open.pop() else { break };
                if candidate == Some(begin) {
                    candidate = None;
                    if (at - begin) * 2 <= GROWN_MAX {
                        found.push(Loop { begin, end: at });
                    }
                }
            }
            // Other blocks of newer proposals end with `end` too: what is not known is left alone altogether.
            other if !is_plain(other) => return Vec::new(),
            // A call that never comes back is a panic: compilers put those into the loop, and no turn passes there.
            Operator::Call { .. } | Operator::CallIndirect { .. }
                if !matches!(operators.get(at + 1), Some(Operator::Unreachable)) =>
            {
                candidate = None;
            }
            _ => {}
        }
    }
    found
}

/// Whether an instruction is one of those whose only labels are in `br`, `br_if` and `br_table`.
fn is_plain(operator: &Operator<'_>) -> bool {
    macro_rules! plain {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
            match operator {
                $( Operator::$op { .. } => plain!(of $proposal), )*
                _ => false,
            }
        };
        (of mvp) => { true };
        (of sign_extension) => { true };
        (of saturating_float_to_int) => { true };
        (of bulk_memory) => { true };
        (of reference_types) => { true };
        (of simd) => { true };
        (of $other:ident) => { false };
    }
    wasmparser::for_each_operator!(plain)
}

/// A function's body with these loops repeated.
fn with_repeated<'a>(body: &[Instruction<'a>], loops: &[Loop]) -> Vec<Instruction<'a>> {
    let mut unrolled = Vec::with_capacity(body.len());
    let mut copied = 0;
    for Loop { begin, end } in loops {
        unrolled.extend_from_slice(&body[copied..*begin]);
        unrolled.extend(repeated(&body[*begin..=*end]));
        copied = end + 1;
    }
    unrolled.extend_from_slice(&body[copied..]);
    unrolled
}

/// A loop, from its `loop` to its `end`, with its body several times.
fn repeated<'a>(whole: &[Instruction<'a>]) -> Vec<Instruction<'a>> {
    let [Instruction::Loop(kind), body @ .., end] = whole else { return whole.to_vec() };
    let turns = (GROWN_MAX / whole.len()).clamp(2, TURNS_MAX);
    let mut repeated = vec![Instruction::Block(*kind), Instruction::Loop(*kind)];
    for _ in 1..turns {
        repeated.push(Instruction::Block(BlockType::Empty));
        // The loop's label is now this block's end; beyond it are two more than before.
        repeated.extend(deeper(body, 2));
        repeated.push(Instruction::Br(2));
        repeated.push(Instruction::End);
    }
    repeated.extend(deeper(body, 1));
    repeated.extend([end.clone(), Instruction::End]);
    repeated
}

/// `body` where so many blocks more lie between it and what is around the loop.
fn deeper<'a>(body: &[Instruction<'a>], more: u32) -> impl Iterator<Item = Instruction<'a>> {
    let mut inside = 0;
    body.iter().map(move |instruction| {
        let label = |label: u32| if label > inside { label + more } else { label };
        match instruction {
            Instruction::Block(_) | Instruction::If(_) => inside += 1,
            Instruction::End => inside -= 1,
            Instruction::Br(to) => return Instruction::Br(label(*to)),
            Instruction::BrIf(to) => return Instruction::BrIf(label(*to)),
            Instruction::BrTable(to, other) => {
                return Instruction::BrTable(to.iter().map(|to| label(*to)).collect(), label(*other));
            }
            _ => {}
        }
        instruction.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use wasm_encoder::Module;

    use super::*;

    fn unrolled(module: &[u8]) -> Vec<u8> {
        let mut unrolled = Module::new();
        Unroll.parse_core_module(&mut unrolled, Parser::new(0), module).expect("a valid module");
        unrolled.finish()
    }

    /// What `run` of a module answers, told to go around its loops so many times in all.
    fn run(module: &[u8], turns: i32, seed: i64) -> i64 {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, module).expect("a valid module");
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).expect("it imports nothing");
        let run = instance.get_typed_func::<(i32, i64), i64>(&mut store, "run").expect("it is there");
        run.call(&mut store, (turns, seed)).expect("it does not trap")
    }

    /// Writes random blocks, loops, branches and sums; every loop counts `$turns` down and ends the function at zero.
    struct Author {
        dice: StdRng,
        text: String,
    }

    impl Author {
        fn write(seed: u64) -> String {
            let mut author = Self { dice: StdRng::seed_from_u64(seed), text: String::new() };
            author.statements(0);
            let body = author.text;
            format!(
                "(module (func (export \"run\") (param $turns i32) (param $sum i64) (result i64)\n{body}  local.get $sum))"
            )
        }

        fn statements(&mut self, depth: u32) {
            for _ in 0..self.dice.random_range(1..5) {
                self.statement(depth);
            }
        }

        /// `depth` labels are around it.
        fn statement(&mut self, depth: u32) {
            let number = self.dice.random_range(1..1000);
            let sum =
                format!("(local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.const {number})))\n");
            let maybe = format!(
                "(i32.wrap_i64 (i64.rem_u (i64.shr_u (local.get $sum) (i64.const 7)) (i64.const {})))",
                self.dice.random_range(2..5)
            );
            let label = self.dice.random_range(0..depth.max(1));
            match self.dice.random_range(0..10) {
                0 | 1 if depth < 5 => {
                    let gives = self.dice.random::<bool>();
                    self.text += if gives { "(local.set $sum (loop (result i64)\n" } else { "(loop\n" };
                    self.text += "(local.set $turns (i32.sub (local.get $turns) (i32.const 1)))\n\
                                  (if (i32.le_s (local.get $turns) (i32.const 0)) (then (return (local.get $sum))))\n";
                    self.statements(depth + 1);
                    // The way around, most often at the end as compilers put it.
                    let _ = writeln!(self.text, "(br_if 0 {maybe})");
                    self.text += if gives { "local.get $sum))\n" } else { ")\n" };
                }
                2 if depth < 5 => {
                    self.text += "(block\n";
                    self.statements(depth + 1);
                    self.text += ")\n";
                }
                3 if depth < 5 => {
                    let _ = writeln!(self.text, "(if {maybe} (then");
                    self.statements(depth + 1);
                    self.text += ") (else\n";
                    self.statements(depth + 1);
                    self.text += "))\n";
                }
                4 | 5 if depth > 0 => {
                    let _ = writeln!(self.text, "(br_if {label} {maybe})");
                }
                6 if depth > 0 => {
                    let other = self.dice.random_range(0..depth);
                    let _ = writeln!(self.text, "(if {maybe} (then (br_table {} {} {maybe})))", label + 1, other + 1);
                }
                7 if depth > 0 && self.dice.random_range(0..4) == 0 => {
                    let _ = writeln!(self.text, "(br {label})");
                }
                _ => self.text += &sum,
            }
        }
    }

    #[test]
    fn random_programs_answer_the_same() {
        let mut repeated = 0;
        for seed in 0..400 {
            let text = Author::write(seed);
            let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let unrolled = unrolled(&module);
            repeated += usize::from(unrolled.len() > module.len() + 8);
            for (turns, sum) in [(1, 7), (9, 1), (100, 12345), (1000, -5)] {
                assert_eq!(run(&unrolled, turns, sum), run(&module, turns, sum), "seed {seed}:\n{text}");
            }
        }
        assert!(repeated > 150, "only {repeated} of 400 had a loop to repeat");
    }

    #[test]
    fn only_small_loops_without_loops_or_calls_are_repeated() {
        let grows = |body: &str| {
            let text = format!(
                "(module (memory 1) (tag $t) (func $f) (func (export \"run\") (param $n i32) (param $x i64) (result i64) {body} local.get $x))"
            );
            let module = wat::parse_str(text).expect("it parses");
            unrolled(&module).len() as f64 / module.len() as f64
        };
        let count = "(local.set $n (i32.sub (local.get $n) (i32.const 1)))";
        assert!(grows(&format!("(loop {count} (br_if 0 (local.get $n)))")) > 1.5);
        assert!(grows(&format!("(loop (loop {count} (br_if 1 (local.get $n))))")) > 1.5, "the inner one");
        assert!(grows(&format!("(loop (call $f) {count} (br_if 0 (local.get $n)))")) < 1.1);
        let panics = "(if (i32.eq (local.get $n) (i32.const 77)) (then (call $f) unreachable))";
        assert!(grows(&format!("(loop {panics} {count} (br_if 0 (local.get $n)))")) > 1.5);
        assert!(grows(&format!("(loop {} (br_if 0 (local.get $n)))", count.repeat(40))) < 1.1, "too long");
        let catches = format!("(block (try_table (catch_all 0) (loop {count} (br_if 0 (local.get $n)))))");
        assert!(grows(&catches) < 1.1, "its labels are others");
    }

    #[test]
    fn what_is_not_valid_stays_as_it_is() {
        let broken = b"\0asm\x0d\0\x01\0\xff\xff".to_vec();
        assert_eq!(unroll(broken.clone()), broken);
    }
}
