//! What a component would cost to compile, judged before it is compiled.
//!
//! Where paths through a function meet, the compiler joins every local variable. A function of a few kilobytes can have so many of
//! both that joining them takes gigabytes, and no time limit helps against that. Real code stays far below: in the largest
//! function of a JavaScript engine the product of both is half a million, in a whole one it adds up to nine millions.

use wasmparser::{BinaryReaderError, CompositeInnerType, FunctionBody, Operator, Parser, Payload};

/// Joints times locals of one function.
const MOST_OF_ONE: u64 = 4 << 20;
/// The same of all functions together.
const MOST_OF_ALL: u64 = 64 << 20;

/// Says why the component is too much for the compiler, if it is. What can't be read is for the compiler to refuse.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    weigh(bytes).unwrap_or(Ok(()))
}

/// Functions of the module that is being read.
#[derive(Default)]
struct Module {
    /// Parameters of each type.
    parameters: Vec<u64>,
    /// The type of each function.
    types: Vec<u32>,
    /// Bodies that were read.
    bodies: usize,
}

fn weigh(bytes: &[u8]) -> Result<Result<(), String>, BinaryReaderError> {
    let (mut module, mut around) = (Module::default(), Vec::new());
    let (mut functions, mut total) = (0_u32, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => around.push(std::mem::take(&mut module)),
            Payload::End(_) => module = around.pop().unwrap_or_default(),
            Payload::TypeSection(section) => {
                for group in section {
                    module.parameters.extend(group?.into_types().map(|sub| match &sub.composite_type.inner {
                        CompositeInnerType::Func(function) => function.params().len() as u64,
                        _ => 0,
                    }));
                }
            }
            Payload::FunctionSection(section) => {
                for function in section {
                    module.types.push(function?);
                }
            }
            Payload::CodeSectionEntry(body) => {
                let type_ = module.types.get(module.bodies).and_then(|type_| usize::try_from(*type_).ok());
                let parameters = type_.and_then(|type_| module.parameters.get(type_)).copied().unwrap_or(0);
                let (locals, joints) = count(&body, parameters)?;
                let weight = locals.saturating_mul(joints);
                if weight > MOST_OF_ONE {
                    let why = format!(
                        "function {functions} has {locals} local variables and {joints} branches; their product may be {MOST_OF_ONE}"
                    );
                    return Ok(Err(why));
                }
                (total, functions, module.bodies) = (total + weight, functions + 1, module.bodies + 1);
                if total > MOST_OF_ALL {
                    return Ok(Err(format!("its functions' local variables times branches add up to more than {MOST_OF_ALL}")));
                }
            }
            _ => {}
        }
    }
    Ok(Ok(()))
}

/// Local variables of a function, and places where its paths part or meet.
fn count(body: &FunctionBody<'_>, parameters: u64) -> Result<(u64, u64), BinaryReaderError> {
    let mut locals = parameters;
    for declared in body.get_locals_reader()? {
        locals += u64::from(declared?.0);
    }
    let mut joints = 0;
    for operator in body.get_operators_reader()? {
        joints += match operator? {
            Operator::Loop { .. }
            | Operator::Block { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::Br { .. }
            | Operator::BrIf { .. } => 1,
            Operator::BrTable { targets } => u64::from(targets.len()) + 1,
            _ => 0,
        };
    }
    Ok((locals, joints))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    fn function(locals: usize, joints: usize) -> Vec<u8> {
        let body = "(br_if 0 (i32.const 0))".repeat(joints);
        wat::parse_str(format!("(component (core module (func (param i32) (local {}) {body})))", "i32 ".repeat(locals))).unwrap()
    }

    #[test]
    fn a_small_function_with_many_variables_at_many_joints_is_too_much() {
        assert_eq!(check(&function(999, 4000)), Ok(()));
        let expected = "function 0 has 1001 local variables and 5000 branches; their product may be 4194304";
        assert_eq!(check(&function(1000, 5000)), Err(expected.to_owned()));
    }

    #[test]
    fn many_functions_add_up() {
        let one = format!("(func (local {}) {})", "i32 ".repeat(2000), "(br_if 0 (i32.const 0))".repeat(2000));
        let module = |functions| wat::parse_str(format!("(component (core module {}))", one.repeat(functions))).unwrap();
        assert_eq!(check(&module(16)), Ok(()));
        let expected = "its functions' local variables times branches add up to more than 67108864";
        assert_eq!(check(&module(17)), Err(expected.to_owned()));
    }

    #[test]
    fn what_is_no_component_is_left_to_the_compiler() {
        assert_eq!(check(b"\0asm\x0d\0\x01\0\x01\xff"), Ok(()));
    }
}
