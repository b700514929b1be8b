#!/usr/bin/env python3
"""What `make install` installs is complete and works alone: names and versions of the library, header and pkg-config
file, exported symbols, a program built as C and C++ against the shared and the static library, and the services started
by the installed hsctl with that program talking through them."""
import configparser
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import PEER4, SERVICES  # noqa: E402

CC = os.environ.get("HS_CC", "cc")
SANITIZE = os.environ.get("HS_SANITIZE", "")
FLAGS = ["-Wall", "-Wextra", "-Werror", "-g"] + ([f"-fsanitize={SANITIZE}"] if SANITIZE else [])
SHIM_ONLY = set()  # symbols of the shim that the C library does not have: none


def symbols(path, *options):
    """Names of defined symbols by nm, without the sanitizers' own."""
    out = run(["nm", "--defined-only", *options, path]).stdout.decode()
    names = {line.split()[-1].split("@")[0] for line in out.splitlines() if len(line.split()) == 3}
    return {n for n in names if not n.startswith(("__asan", "__odr_asan", "__ubsan", "__tsan"))}


class Install(netcase.NetCase):
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dest = tempfile.mkdtemp(prefix="hs-dest-")
        cls.addClassCleanup(shutil.rmtree, cls.dest, ignore_errors=True)
        os.chmod(cls.dest, 0o755)
        run(["cmake", "--install", cls.lab.build], 60, env={**os.environ, "DESTDIR": cls.dest})

    def one(self, name):
        """The only installed file of that name."""
        found = glob.glob(f"{self.dest}/**/{name}", recursive=True)
        self.assertEqual(len(found), 1, name)
        return found[0]

    def text(self, name):
        with open(self.one(name), encoding="utf-8") as f:
            return f.read()

    def test_files(self):
        for name in ("hsctl", *[f"hs-{s}" for s in SERVICES]):
            path = self.one(name)
            self.assertTrue(os.access(path, os.X_OK))
            self.assertRegex(run([path, "--version"]).stdout.decode(), rf"^{name} \d+\.\d+\.\d+")
        for name in ("libvcl_ldpreload.so", "hs-nicio-ethdev.so", "libvppcom.a", "libsvm.a", "libvppinfra.a",
                     "hoststack-vppcom.pc", "hoststack.target", "vcl.conf"):
            self.one(name)
        self.assertTrue(self.one("vppcom.h").endswith("/include/vcl/vppcom.h"))
        self.assertEqual(len(glob.glob(f"{self.dest}/**/etc/hoststack/hoststack.yaml", recursive=True)), 1)

    def test_a_configuration_that_is_there_stays(self):
        path, = glob.glob(f"{self.dest}/**/etc/hoststack/hoststack.yaml", recursive=True)
        with open(path, "a", encoding="utf-8") as f:
            f.write("# mine\n")
        run(["cmake", "--install", self.lab.build], 60, env={**os.environ, "DESTDIR": self.dest})
        with open(path, encoding="utf-8") as f:
            self.assertTrue(f.read().endswith("# mine\n"))

    def test_soname(self):
        path = os.path.realpath(self.one("libvppcom.so"))
        dynamic = run(["readelf", "-d", path]).stdout.decode()
        soname = re.search(r"SONAME.*\[(libvppcom\.so\.\d+)\]", dynamic).group(1)
        self.assertRegex(os.path.basename(path), r"^libvppcom\.so\.\d+\.\d+\.\d+$")
        self.assertEqual(os.path.realpath(self.one(soname)), path)
        self.assertNotIn("RUNPATH", dynamic)

    def test_exported_symbols(self):
        declared = set(re.findall(r"\b(vppcom_\w+)\s*\(", self.text("vppcom.h")))
        for names in (symbols(self.one("libvppcom.so"), "-D"), symbols(self.one("libvppcom.a"), "-g")):
            self.assertEqual({n for n in names if not n.startswith("vppcom_")} - {"VPPCOM_1"}, set())
            self.assertEqual(declared - names, set())

    def test_shim_exports_only_what_the_c_library_has(self):
        libc = run([CC, "-print-file-name=libc.so.6"]).stdout.decode().strip()
        theirs = symbols(libc, "-D")
        ours = symbols(self.one("libvcl_ldpreload.so"), "-D")
        self.assertLessEqual({"socket", "connect", "accept4", "epoll_wait", "poll", "select", "read", "writev"}, ours)
        self.assertEqual(ours - theirs - SHIM_ONLY, set())

    def build(self, name, compiler, how):
        out = os.path.join(self.lab.dir, name)
        own = ["-DOWN_PROTOBUF_C"] if how == "own" else []
        env = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(self.one("hoststack-vppcom.pc")),
               "PKG_CONFIG_SYSROOT_DIR": self.dest}
        cflags = shlex.split(run(["pkg-config", "--cflags", "hoststack-vppcom"], env=env).stdout.decode())
        if how == "shared":
            libs = shlex.split(run(["pkg-config", "--libs", "hoststack-vppcom"], env=env).stdout.decode())
        else:
            libs = [self.one(lib) for lib in ("libvppcom.a", "libsvm.a", "libvppinfra.a")] + ["-pthread"]
        if how == "own":  # all of protobuf-c, beside what libvppcom has of it inside
            libs += ["-Wl,--whole-archive", "-l:libprotobuf-c.a", "-Wl,--no-whole-archive"]
        language = ["-x", "c++", "-std=c++17"] if compiler.endswith("++") else ["-x", "c", "-std=gnu11"]
        run([*shlex.split(compiler), *FLAGS, *own, *cflags, *language, os.path.join(HERE, "talk.c"), "-x", "none", *libs,
             "-o", out], 60)
        return out

    def programs(self):
        """The same program four ways, with the environment each needs."""
        library = {"LD_LIBRARY_PATH": os.path.dirname(self.one("libvppcom.so"))}
        return [(self.build("shared-c", CC, "shared"), library), (self.build("static-c", CC, "static"), {}),
                (self.build("shared-cc", "g++", "shared"), library), (self.build("static-cc", "g++", "static"), {})]

    def test_programs(self):
        for path, env in self.programs():
            with self.subTest(os.path.basename(path)):
                self.assertEqual(run([path], env={**os.environ, **env}).stdout, b"TCP VPPCOM_EAGAIN 42\n")

    def test_services_and_programs(self):
        self.lab.hsctl_path = self.one("hsctl")
        self.lab.start()
        self.addCleanup(self.lab.stop)
        for name in SERVICES:
            self.assertTrue(os.path.samefile(f"/proc/{self.lab.pid_of(name)}/exe", self.one(f"hs-{name}")))
        echo = os.path.join(sys.path[0], "echo.py")
        self.lab.spawn("peer", [programs.PYTHON, "-u", echo, "serve", PEER4, 7000])
        programs.wait_listening(self.lab, "peer", 7000)
        for path, env in self.programs():
            with self.subTest(os.path.basename(path)):
                cmd = self.lab.world.command(self.lab.S, [path, PEER4, 7000],
                                             {**env, "VCL_VPP_SAPI_SOCKET": self.lab.attach}, self.lab.app_uid)
                self.assertEqual(run(cmd).stdout, b"spoken through libvppcom\n")

    def test_own_protobuf_c(self):
        """A host with a whole protobuf-c of its own, as Envoy may have one: neither meets the other's functions."""
        for compiler in (CC, "g++"):
            path = self.build(f"own-{len(compiler)}", compiler, "own")
            self.assertEqual(run([path]).stdout, b"TCP VPPCOM_EAGAIN 42\n")
            names = symbols(path)
            self.assertLessEqual({"protobuf_c_message_pack", "protobuf_c_version_number"}, names)

    def test_units(self):
        """Each service its own unit, restarted always; no unit names another as needed."""
        path = self.one("hoststack@.service")
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str
        unit.read(path)
        self.assertEqual(unit["Service"]["Restart"], "always")
        self.assertEqual(unit["Service"]["RuntimeDirectoryPreserve"], "yes")
        program = unit["Service"]["ExecStart"].split()[0].replace("%i", "engine")
        self.assertTrue(os.access(self.dest + program, os.X_OK))
        self.assertFalse({"Requires", "BindsTo", "Requisite", "Conflicts"} & set(unit["Unit"]))
        for name in SERVICES:
            self.assertIn(f"hoststack@{name}.service", self.text("hoststack.target"))
        if shutil.which("systemd-analyze"):
            said = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True,
                                  env={**os.environ, "SYSTEMD_UNIT_PATH": os.path.dirname(path) + ":"}, timeout=60)
            ours = [line for line in said.stderr.splitlines() if "hoststack" in line and "is not executable" not in line]
            self.assertEqual(ours, [])


if __name__ == "__main__":
    netcase.main()
