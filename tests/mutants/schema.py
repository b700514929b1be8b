"""Mutants of C sources as schemata: one copy of a room in which each mutant is asleep until hs_mutant says its number.

Called by mutants.py. A mutant is one comparison (< and <=, == and !=, seq_lt and seq_leq …), one sign (+ and -, also
unary, += and -=, ++ and --) or one constant (n becomes n + 1). transform() writes a source anew: an operator becomes a
statement expression which evaluates both operands once and then chooses; the choice also notes whether the two results
differed, so that a mutant need not be run against a test in which it could have changed nothing (mutant.h).

No compiler is asked: a tokenizer and the precedence of operators say how far operands reach. Left alone, because they
have to be constant for the compiler: directives other than the bodies of macros, macros that are used in such places,
case labels, static and file-scope initialisers, array sizes, enumerators, _Static_assert, sizeof, FAULT_POINT. They are
counted (Left).
"""
import collections
import hashlib
import os
import re

TOKEN = re.compile(r"""
  (?P<space>\s+|//[^\n]*|/\*.*?\*/)
 |(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
 |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d+[uUlL]*)
 |(?P<name>[A-Za-z_]\w*)
 |(?P<op>\.\.\.|<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\#\#|[-+*/%&|^!~<>=?:;,.(){}\[\]\#\\])
""", re.S | re.X)
LEVEL = {"*": 10, "/": 10, "%": 10, "+": 9, "-": 9, "<<": 8, ">>": 8, "<": 7, "<=": 7, ">": 7, ">=": 7, "==": 6, "!=": 6,
         "&": 5, "^": 4, "|": 3, "&&": 2, "||": 1}
ASSIGN = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
SWAP = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "++": "--", "--": "++", "+=": "-=", "-=": "+=",
        "seq_lt": "seq_leq", "seq_leq": "seq_lt", "seq_gt": "seq_geq", "seq_geq": "seq_gt", "+": "-", "-": "+"}
STOP = {"return", "case", "else", "do", "goto", "default"}  # no operand reaches across these words
BLOCK = {"if", "while", "for", "switch"}                    # nor across the brackets behind these
SHUT = {"(": ")", "[": "]", "{": "}"}
FIXED = {"_Static_assert", "HS_STATIC_ASSERT", "sizeof", "offsetof", "FAULT_POINT", "_Alignof", "__attribute__"}
TYPES = re.compile(r"(?:const|void|char|short|int|long|unsigned|signed|struct|union|enum|volatile|\w+_t|\*)$")

Token = collections.namedtuple("Token", "kind text at")
Left = collections.namedtuple("Left", "file line text why")


class Mutant:
    """One small error. `at` is the token's place in the file, `old` and `new` what it says."""

    def __init__(self, path, source, at, old, new):
        self.number = 0
        self.file, self.at, self.old, self.new = os.path.basename(path), at, old, new
        self.line = source.count("\n", 0, at) + 1
        begin = source.rfind("\n", 0, at) + 1
        self.code = source[begin:source.find("\n", at)].strip()
        self.either_way = False  # at equality, where it differs, both arms of the conditional are the same value
        self.nth = 0  # of those with the same text in this line
        self.reached_by, self.noted_by = set(), set()
        self.key = f"{self.file}:{hashlib.sha256(source.encode()).hexdigest()[:16]}:{at}:{new}"

    @property
    def kind(self):
        return "constant" if self.old[0].isdigit() else "sign" if self.old[0] in "+-" else "comparison"


def tokens(source, start=0, end=None):
    """Tokens that are code, and directives as one token each."""
    out, at, end = [], start, len(source) if end is None else end
    while at < end:
        if source[at] == "#" and source[:at].rpartition("\n")[2].strip() == "" and start == 0:
            stop = re.compile(r"(?:\\\n|/\*.*?\*/|[^\n])*", re.S).match(source, at).end()
            out.append(Token("directive", source[at:stop], at))
            at = stop
            continue
        m = TOKEN.match(source, at, end)
        if m is None:
            raise ValueError(f"no token: {source[at:at + 40]!r}")
        if m.lastgroup != "space":
            out.append(Token(m.lastgroup, m.group(0), at))
        at = m.end()
    return out


def pairs(toks):
    """Index of the partner of each bracket."""
    partner, stack = {}, []
    for i, t in enumerate(toks):
        if t.kind == "op" and t.text in SHUT:
            stack.append(i)
        elif t.kind == "op" and t.text in SHUT.values() and stack:
            j = stack.pop()
            partner[i], partner[j] = j, i
    return partner


def is_type(toks):
    return bool(toks) and all(t.kind == "name" or t.text == "*" for t in toks) and \
        (TYPES.match(toks[0].text) or toks[0].text.endswith("_t")) is not None


class Code:
    """Tokens of one function body or macro body, and how far operands reach in it."""

    def __init__(self, toks):
        self.toks, self.partner = toks, pairs(toks)

    def binary(self, i):
        if i == 0:
            return False
        p = self.toks[i - 1]
        if p.kind in ("number", "text"):
            return True
        if p.kind == "name":
            return p.text not in STOP and p.text not in FIXED
        if p.text == ")":
            j = self.partner.get(i - 1, 0)
            if j > 0 and self.toks[j - 1].text in BLOCK:
                return False
            return not is_type(self.toks[j + 1:i - 1])
        return p.text in ("]", "++", "--")

    def level(self, i):
        """Precedence of the binary operator at i, or 0."""
        t = self.toks[i]
        if t.kind != "op" or t.text not in LEVEL:
            return 0
        if t.text in "+-*&" and not self.binary(i):
            return 0
        return LEVEL[t.text]

    def inside(self, bracket, k):
        """Is k in this pair of brackets, and in none within it?"""
        return not any(bracket < a < k < self.partner[a] for a in self.partner if a < self.partner[a])

    def border(self, i):
        t = self.toks[i]
        return (t.kind == "op" and (t.text in ",;?:{}" or t.text in ASSIGN)) or (t.kind == "name" and t.text in STOP) \
            or t.kind == "directive"

    def left(self, i, level):
        """First token of the left operand of the operator at i."""
        first, j = i, i - 1
        while j >= 0:
            t = self.toks[j]
            if t.kind == "op" and t.text in (")", "]"):
                k = self.partner[j]
                if k > 0 and self.toks[k - 1].text in BLOCK:
                    break
                first, j = k, k - 1
                continue
            if t.text == "}" and self.partner.get(j, 0) > 0 and self.toks[self.partner[j] - 1].text == ")" and first < i:
                break
            if self.border(j) or t.text in SHUT or 0 < self.level(j) < level:
                break
            first, j = j, j - 1
        return first

    def right(self, i, level, whole=False):
        """Last token of the right operand."""
        last, j = i, i + 1
        while j < len(self.toks):
            t = self.toks[j]
            if t.kind == "op" and t.text in SHUT and not (t.text == "{" and last == i):
                last = self.partner[j]
                j = last + 1
                continue
            if t.text in SHUT.values() or t.text in ",;" or (not whole and self.border(j)) or 0 < self.level(j) <= level:
                break
            last, j = j, j + 1
        return last

    def primary_left(self, i):
        """First token of the postfix expression that ends before i."""
        j = i - 1
        while True:
            while self.toks[j].text in (")", "]"):
                j = self.partner[j] - 1
                if self.toks[j].kind != "name":
                    return j + 1
            if j >= 2 and self.toks[j - 1].text in (".", "->"):
                j -= 2
                continue
            return j

    def primary_right(self, i):
        """Last token of the unary expression that begins after i."""
        j = i + 1
        while self.toks[j].text in ("*", "&", "-", "~", "!", "+", "++", "--"):
            j += 1
        if self.toks[j].text == "(":
            close = self.partner[j]
            if is_type(self.toks[j + 1:close]):
                return self.primary_right(close)
            j = close
        while j + 1 < len(self.toks):
            n = self.toks[j + 1].text
            if n in (".", "->"):
                j += 2
            elif n in ("(", "["):
                j = self.partner[j + 1]
            elif n in ("++", "--"):
                j += 1
            else:
                break
        return j


def fixed_ranges(code):
    """Indices of tokens of a function's body that have to be constant, with the reason."""
    toks, out, i = code.toks, {}, 0
    def mark(a, b, why):
        for k in range(a, b):
            out[k] = why
    while i < len(toks):
        t = toks[i]
        if t.kind == "name" and t.text in FIXED and i + 1 < len(toks) and toks[i + 1].text == "(":
            mark(i, code.partner[i + 1] + 1, "constant expression")
        elif t.text == "case":
            j = i
            while toks[j].text != ":":
                j += 1
            mark(i, j, "case label")
        elif t.text in ("static", "enum") or (t.text in ("struct", "union") and i + 2 < len(toks) and toks[i + 2].text == "{"):
            j = i
            while toks[j].text != ";" and not (t.text == "enum" and toks[j].text in ",)="):
                j = code.partner[j] + 1 if toks[j].text in SHUT else j + 1
            mark(i, j, "static initialiser")
        elif t.text == "[" and i >= 2 and toks[i - 1].kind == "name" and (
                toks[i - 2].kind == "name" and toks[i - 2].text not in STOP):
            mark(i, code.partner[i] + 1, "array size")
        elif t.text == "[" and i >= 1 and toks[i - 1].text in ("{", ","):
            mark(i, code.partner[i] + 1, "designator")
        i += 1
    return out


class Source:
    """One file: its mutants, and its text with all of them in it."""

    def __init__(self, path, text=None):
        self.path = path
        if text is None:
            with open(path, encoding="utf-8") as f:
                text = f.read()
        self.text, self.mutants, self.left, self.edits = text, [], [], []
        self.toks = tokens(text)
        self.name = os.path.basename(path)

    def bodies(self):
        """(begin, end) of each function's body in self.toks, braces included."""
        partner, i = pairs(self.toks), 0
        while i < len(self.toks):
            t = self.toks[i]
            if t.text == "{" and t.kind == "op":
                if i > 0 and self.toks[i - 1].text == ")":
                    yield i, partner[i] + 1
                i = partner[i]
            i += 1

    def macros(self):
        """(name, tokens of the body) of each macro that is an expression."""
        for t in self.toks:
            m = re.match(r"#[ \t]*define[ \t]+(\w+)(\([^)\n]*\))?", t.text) if t.kind == "directive" else None
            if m:
                yield m.group(1), tokens(self.text, t.at + m.end(), t.at + len(t.text))

    def constant_names(self):
        """Names that stand where the compiler wants constants."""
        inside, names = set(), set()
        for a, b in self.bodies():
            code = Code(self.toks[a:b])
            inside.update(range(a, b))
            names.update(code.toks[k].text for k in fixed_ranges(code) if code.toks[k].kind == "name")
        names.update(t.text for i, t in enumerate(self.toks) if i not in inside and t.kind == "name")
        for t in self.toks:
            if t.kind == "directive" and re.match(r"#[ \t]*(?:el)?if", t.text):
                names.update(re.findall(r"[A-Za-z_]\w*", t.text))
        return names

    def plan(self, constant):
        """Finds the mutants; `constant` are names of macros that must stay what they are."""
        inside = set()
        for a, b in self.bodies():
            inside.update(range(a, b))
            code = Code(self.toks[a:b])
            self.plan_code(code, fixed_ranges(code))
        for name, body in self.macros():
            odd = any(t.text in ("{", "#", "##", "\\") for t in body)
            why = "macro in a constant" if name in constant else "macro of more than an expression" if odd else ""
            self.plan_code(Code([t for t in body if t.text != "\\"]), collections.defaultdict(lambda: why) if why else {})
        for i, t in enumerate(self.toks):
            if i not in inside and t.kind == "number":
                self.left.append(Left(self.name, self.text.count("\n", 0, t.at) + 1, t.text, "outside of functions"))
        seen = collections.Counter()
        for m in sorted(self.mutants, key=lambda m: m.at):
            seen[(m.code, m.old)] += 1
            m.nth = seen[(m.code, m.old)]

    def plan_code(self, code, fixed):
        for i, t in enumerate(code.toks):
            if not (t.kind == "number" or (t.kind == "name" and t.text.startswith("seq_")) or t.kind == "op"):
                continue
            if t.kind != "number" and t.text not in SWAP:
                continue
            why = fixed[i] if isinstance(fixed, collections.defaultdict) or i in fixed else ""
            if why:
                self.left.append(Left(self.name, self.text.count("\n", 0, t.at) + 1, t.text, why))
                continue
            self.plan_token(code, i, t)

    def either_way(self, code, a, b, last):
        """Is a comparison of a with b, which ends at `last`, the condition of a ? a : b, or of a - b with 0?"""
        toks, arms, j = code.toks, [[]], last + 2
        if last + 1 >= len(toks) or toks[last + 1].text != "?":
            return False
        while j < len(toks) and toks[j].text not in ",;)}" and toks[j].text != "?":
            if toks[j].text == ":":
                arms.append([])
            elif toks[j].text in SHUT:
                arms[-1] += toks[j:code.partner[j] + 1]
                j = code.partner[j]
            else:
                arms[-1].append(toks[j])
            j += 1
        if len(arms) != 2:
            return False
        plain = lambda ts: "".join(t.text for t in ts if t.kind != "text")
        one, two, a, b = plain(arms[0]), plain(arms[1]), plain(a), plain(b)
        return {one, two} == {a, b} or {one, two} in ({f"{a}-{b}", "0"}, {f"{b}-{a}", "0"})

    def plan_token(self, code, i, t):
        toks, text = code.toks, t.text
        end = lambda k: toks[k].at + len(toks[k].text)
        if t.kind == "number":
            m = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)([uUlL]*)", text)
            self.add(t, f"{int(m.group(1), 0) + 1}{m.group(2)}", t.at, end(i), "HS_CONST({n}, ", "", ")", keep=True)
        elif t.kind == "name":
            if i + 1 < len(toks) and toks[i + 1].text == "(":
                close = code.partner[i + 1]
                self.add(t, SWAP[text], t.at, end(close), "", "hs_mutant_" + text + "({n}, ", "", call=True)
                comma = [k for k in range(i + 2, close) if toks[k].text == "," and code.inside(i + 1, k)]
                if len(comma) == 1:
                    self.mutants[-1].either_way = self.either_way(code, toks[i + 2:comma[0]], toks[comma[0] + 1:close], close)
        elif text in ("++", "--"):
            post = i > 0 and (toks[i - 1].kind == "name" or toks[i - 1].text in (")", "]")) and toks[i - 1].text not in STOP
            if post and toks[i - 1].text == ")" and toks[code.partner[i - 1] - 1].text in BLOCK:
                post = False
            if post:
                first = code.primary_left(i)
                self.add(t, SWAP[text], toks[first].at, end(i), "HS_STEP_POST({n}, ", "", f", {text}, {SWAP[text]})")
            else:
                self.add(t, SWAP[text], t.at, end(code.primary_right(i)), "", "HS_STEP_PRE({n}, ", f", {text}, {SWAP[text]})")
        elif text in ("+=", "-="):
            first, last = code.left(i, 0), code.right(i, 0, whole=True)
            self.add(t, SWAP[text], toks[first].at, end(last), "HS_BY({n}, {text}, {new}, (", "), (", "))")
        elif code.level(i):
            level = code.level(i)
            first, last = code.left(i, level), code.right(i, level)
            word = "HS_SIGN" if text in "+-" else "HS_COMPARE"
            self.add(t, SWAP[text], toks[first].at, end(last), word + "({n}, {text}, {new}, (", "), (", "))")
            if text[0] in "<>":
                self.mutants[-1].either_way = self.either_way(code, toks[first:i], toks[i + 1:last + 1], last)
        elif text == "-":
            self.add(t, "+", t.at, end(code.primary_right(i)), "", "HS_NEGATIVE({n}, ", ")")

    def add(self, t, new, begin, end, pre, mid, post, keep=False, call=False):
        m = Mutant(self.path, self.text, t.at, t.text, new)
        self.mutants.append(m)
        self.edits.append((m, t, begin, end, pre, mid, post, keep, call))

    def transform(self, header, skip=frozenset()):
        """The text with every mutant in it but those in `skip`; numbers are given already."""
        ins = collections.defaultdict(list)  # place → (order, text)
        gone = {}                            # place → (length, text instead)
        for m, t, begin, end, pre, mid, post, keep, call in self.edits:
            if m.key in skip:
                continue
            fill = lambda s, m=m, t=t: s.replace("{n}", str(m.number)).replace("{text}", t.text).replace("{new}", m.new)
            length = end - begin
            if pre:
                ins[begin].append((1, -length, fill(pre)))
            if post:
                ins[end].append((0, length, fill(post)))
            if call:  # name( becomes hs_mutant_name(n,
                bracket = self.text.index("(", t.at)
                gone[t.at] = (bracket + 1 - t.at, fill(mid))
            elif not keep:
                gone[t.at] = (len(t.text), fill(mid))
        out, at = [f'#include "{header}"\n#line 1 "{self.path}"\n'], 0
        for place in sorted(set(ins) | set(gone)):
            out.append(self.text[at:place])
            at = max(at, place)
            out.extend(s for _, _, s in sorted(ins.get(place, ())))
            if place in gone:
                out.append(gone[place][1])
                at = place + gone[place][0]
        return "".join(out) + self.text[at:]


def constants(paths):
    """Names that anyone of these files uses where a constant has to stand, and what macros of that name are made of."""
    names, inner = set(), {}
    for path in paths:
        s = Source(path)
        names |= s.constant_names()
        for name, body in s.macros():
            inner.setdefault(name, set()).update(t.text for t in body if t.kind == "name")
    todo = list(names)
    while todo:
        for n in inner.get(todo.pop(), ()):
            if n not in names:
                names.add(n)
                todo.append(n)
    return names
