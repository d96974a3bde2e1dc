"""One mutated case from beginning to end, for the test and for the benchmark."""

from collections.abc import Sequence

from tests.mutations.mutation import Mutation, apply
from tests.mutations.sandbox import Sandbox, Verdict
from tests.mutations.targets import Target, remake_checksums


def run_case(
    sandbox: Sandbox, target: Target, mutation: Mutation, *, remakes_checksums: bool
) -> Verdict:
    """Applies the mutation to a fresh copy, runs the target's command, judges what it did."""
    work = sandbox.fresh(target.pristine)
    extra: Sequence[object] = ()
    if mutation.kind == "override":
        extra = [mutation.value]
    else:
        apply(mutation, work, sandbox.outside)
    if remakes_checksums:
        remake_checksums(work, target.folders)
    sandbox.forget()
    return sandbox.run([*target.arguments(work), *extra])
