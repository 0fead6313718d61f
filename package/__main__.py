import shutil
import sys

from .build import CHECKOUT, build


def main() -> int:
    """Replace the contents of dist/, so that `dist/*.whl` is one file."""
    target = CHECKOUT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    try:
        built = build(target)
    except RuntimeError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.writelines(f"{path.relative_to(CHECKOUT)}\n" for path in built)
    return 0


if __name__ == "__main__":
    sys.exit(main())
