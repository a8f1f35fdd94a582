#!/usr/bin/env python3
"""Size ratchet: a file has at most 500 lines, a function 80 (150 in src/kernels), a line 120 characters.

  tools/check_sizes.py [root]       red with file:line; exceptions are in tools/size_allow.txt, which may only shrink
  tools/check_sizes.py --self-test

Functions are found by the braces of clang-formatted C++: a space stands before that of a body, none before that of an
initialiser.
"""

import ast
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["src", "tests", "tools", "evaluation", "bench", ".ci"]
LIMITS = {"file": 500, "function": 80, "line": 120}
KERNEL_FUNCTION = 150

# Comments, preprocessor lines, raw strings, strings, characters: blanked, as braces in them mean nothing.
NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+'""",
    re.DOTALL | re.MULTILINE)
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum)\b")
MARK = re.compile(r"[{};]|\b(public|protected|private):")


def kind_of_brace(head, space_before):
    """What a brace opens, from the text before it, back to the end of the previous thing."""
    if not space_before:
        return "initialiser"
    while (shorter := re.sub(r"<[^<>]*>", "", head)) != head:  # template <class T> is not a class
        head = shorter
    before_parameters, parenthesis, _ = head.partition("(")
    if head.rstrip().endswith("="):
        return "data"
    return "body" if parenthesis and not CONTAINER.search(before_parameters) else "container"


def cpp_functions(text):
    """(first line, lines) of each function that lies in no other."""
    code = NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    functions, head = [], 0
    blocks = []  # what each open brace opened; in anything but a container we only wait for its end
    for mark in MARK.finditer(code):
        closed = None
        if mark.group() == "{":
            waiting = blocks and blocks[-1] != "container"
            space_before = code[mark.start() - 1].isspace()
            blocks.append("inner" if waiting else kind_of_brace(code[head:mark.start()], space_before))
        elif mark.group() == "}" and blocks:
            closed = blocks.pop()
            if closed == "body":
                first = code.count("\n", 0, head + re.match(r"\s*", code[head:]).end()) + 1
                functions.append((first, code.count("\n", 0, mark.start()) + 2 - first))
        if closed != "initialiser" and (not blocks or blocks[-1] == "container"):
            head = mark.end()
    return functions


def python_functions(text):
    return [(node.lineno, node.end_lineno - node.lineno + 1) for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef)]


def measure(path, text):
    """(kind, line, size) of everything in the file that has a limit."""
    lines = text.splitlines()
    yield "file", 1, len(lines)
    for number, line in enumerate(lines, 1):
        yield "line", number, len(line)
    functions = {".h": cpp_functions, ".cc": cpp_functions, ".py": python_functions}.get(path.suffix, lambda _: [])
    for number, size in functions(text):
        yield "function", number, size


def read_allowed(root):
    """{(kind, path): size}"""
    allowed = {}
    file = root / "tools/size_allow.txt"
    for line in file.read_text().splitlines() if file.exists() else []:
        if line.strip() and not line.startswith("#"):
            kind, path, size = line.split()
            allowed[kind, path] = int(size)
    return allowed


def sources(root):
    for folder in FOLDERS:
        suffixes = (".h", ".cc", ".py", ".sh", "") if folder in ("tools", "bench", ".ci") else (".h", ".cc", ".py")
        yield from (file for file in sorted((root / folder).rglob("*")) if file.is_file() and file.suffix in suffixes)


def check(root):
    allowed, needed, found = read_allowed(root), set(), []
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        kernel = path.startswith("src/kernels/")
        for kind, number, size in measure(file, file.read_text(encoding="utf-8")):
            limit = KERNEL_FUNCTION if kind == "function" and kernel else LIMITS[kind]
            if size <= limit:
                continue
            needed.add((kind, path))
            if size > (most := allowed.get((kind, path), limit)):
                unit = "characters" if kind == "line" else "lines"
                found.append(f"{path}:{number}: {kind} of {size} {unit}, the limit is {most}; split it")
    for kind, path in sorted(set(allowed) - needed):
        found.append(f"tools/size_allow.txt: '{kind} {path}' is not needed any more; delete that line")
    return found


def self_test():
    body = "  work();\n"
    planted = {  # file: its text, and where it must be red
        "src/kv/ok.cc": ("// }{\nnamespace a {\nint f() {\n" + body * 77 + "}\n}\n", None),
        "src/kv/table.cc": ("const Row kTable[] = {\n" + "    {\"{\", 1'0, make(2), {'}'}},\n" * 100 + "};\n", None),
        "src/kv/function.cc": ("int x;\n\ntemplate <class T>\nint f(T x) {\n" + body * 80 + "}\n", "3"),
        "src/kv/member.h": ("class A : B {\n public:\n  int f() const override {\n" + body * 80 + "  }\n};\n", "3"),
        "src/kv/make.cc": ("A::A(int x)\n    : a_{x}, b_{B{1, 2}}, c_(x) {\n" + body * 79 + "}\n", "1"),
        "src/kv/two.cc": ("void f() {\n" + body * 70 + "}\n\n\nvoid g() {\n" + body * 79 + "}\n", "75"),
        "src/kv/file.cc": ("int x;\n" * 501, "1"),
        "src/kv/line.cc": ("int y;\nint " + "x" * 120 + ";\n", "2"),
        "src/kv/allowed.cc": ("int x;\n" * 510, None),
        "src/kernels/ok.cc": ("void f() {\n" + body * 140 + "}\n", None),
        "src/kernels/long.cc": ("void f() {\n" + body * 150 + "}\n", "1"),
        "tools/long.py": ("def f():\n" + "    work()\n" * 80, "1"),
        "tools/size_allow.txt": ("file src/kv/allowed.cc 510\nline src/kv/ok.cc 150\n", " 'line src/kv/ok.cc'"),
    }
    expected = [f"{path}:{where}" for path, (_, where) in planted.items() if where]
    with tempfile.TemporaryDirectory() as folder:
        for path, (text, _) in planted.items():
            file = pathlib.Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        found = check(pathlib.Path(folder))
    for start in expected:
        if not any(line.startswith(start) for line in found):
            sys.exit(f"self-test failed: {start} was not found in {found}")
    if len(found) != len(expected):
        sys.exit(f"self-test failed: {len(expected)} violations were planted, found: {found}")
    print(f"check_sizes: self-test found all {len(expected)} planted violations and no other")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    found = check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    print("\n".join(found) or "check_sizes: every file, function and line is within its limit")
    sys.exit(1 if found else 0)


main()
