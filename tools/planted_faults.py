"""What the repository checks share: proof that a check sees the fault it is for, and a main."""

import pathlib
import sys
import tempfile


def self_test(clean, planted, check, exactly_one=False):
    """Runs check(root, paths) on a clean tree, then once for each planted fault.

    clean: path -> text. planted: (path, text, part of the complaint that must follow;
    with exactly_one, nothing else may). Returns the number of surprises and prints each.
    """
    surprises = 0
    for path, content, expected in ((None, None, None), *planted):
        tree = dict(clean)
        if path:
            tree[path] = content
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            for name, text in tree.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            found = check(root, sorted(tree))
        found = list(found)
        caught = any(expected in line for line in found) if path else not found
        if path and exactly_one:
            caught = caught and len(found) == 1
        if not caught:
            surprises += 1
            print(f"self-test: {path or 'the clean tree'} with {str(content)[:80]!r}: expected "
                  f"{expected or 'no complaint'}, found {found}")
    print(f"self-test: {len(planted) + 1 - surprises} of {len(planted) + 1} as expected")
    return surprises


def main(documentation, run_self_test, run_check, all_well):
    """Exit status of a check: --self-test, or no argument to check the repository."""
    if sys.argv[1:] == ["--self-test"]:
        return 1 if run_self_test() else 0
    if sys.argv[1:]:
        print(documentation)
        return 2
    found = run_check(pathlib.Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else all_well)
    return 1 if found else 0
