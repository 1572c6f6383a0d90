//! What a shader can write, by its statements.

use std::collections::BTreeMap;

/// Who writes a buffer, but for what no constant lets happen.
pub(super) struct Writers<'a> {
    module: &'a naga::Module,
    buffer: naga::Handle<naga::GlobalVariable>,
    functions: BTreeMap<naga::Handle<naga::Function>, bool>,
}

impl<'a> Writers<'a> {
    pub(super) fn of(module: &'a naga::Module, buffer: &str) -> Self {
        let found = module.global_variables.iter().find(|(_, global)| global.name.as_deref() == Some(buffer));
        let mut writers = Self { module, buffer: found.expect("a global").0, functions: BTreeMap::new() };
        // A function comes after those that it calls.
        for (handle, function) in module.functions.iter() {
            let writes = writers.writes(function);
            writers.functions.insert(handle, writes);
        }
        writers
    }

    pub(super) fn writes(&self, function: &naga::Function) -> bool {
        self.block_writes(function, &function.body)
    }

    fn block_writes(&self, function: &naga::Function, block: &naga::Block) -> bool {
        use naga::Statement::{Block, Call, If, Loop, Store, Switch};
        block.iter().any(|statement| match statement {
            Store { pointer, .. } => self.root(function, *pointer) == Some(self.buffer),
            Call { function: callee, .. } => self.functions[callee],
            If { condition, accept, reject } => {
                !self.is_never(function, *condition) && self.block_writes(function, accept)
                    || self.block_writes(function, reject)
            }
            Block(block) => self.block_writes(function, block),
            Loop { body, continuing, .. } => {
                self.block_writes(function, body) || self.block_writes(function, continuing)
            }
            Switch { cases, .. } => cases.iter().any(|case| self.block_writes(function, &case.body)),
            _ => false,
        })
    }

    /// Whether a condition is a constant, and false.
    fn is_never(&self, function: &naga::Function, condition: naga::Handle<naga::Expression>) -> bool {
        use naga::Expression::{Constant, Literal};
        match function.expressions[condition] {
            Constant(constant) => {
                let value = &self.module.global_expressions[self.module.constants[constant].init];
                matches!(value, Literal(naga::Literal::Bool(false)))
            }
            Literal(naga::Literal::Bool(value)) => !value,
            _ => false,
        }
    }

    /// The global that a pointer points into.
    fn root(
        &self,
        function: &naga::Function,
        mut pointer: naga::Handle<naga::Expression>,
    ) -> Option<naga::Handle<naga::GlobalVariable>> {
        use naga::Expression::{Access, AccessIndex, GlobalVariable};
        loop {
            match function.expressions[pointer] {
                Access { base, .. } | AccessIndex { base, .. } => pointer = base,
                GlobalVariable(global) => return Some(global),
                _ => return None,
            }
        }
    }
}
