#!/usr/bin/env python3
"""The table of programs, java: a JVM's sockets go through libc, so it runs on the stack. HTTP with threads over its
blocking and its non-blocking API, server and client, and sockets of loopback, which are the kernel's. LDP_DEBUG tells."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from table import row  # noqa: E402

PAIRS = (("app", "peer"), ("peer", "app"), ("app", "app"))
SOURCE = """
import com.sun.net.httpserver.*;
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.security.*;
import java.util.*;
import java.util.concurrent.*;

public class Web {
  static String sum(byte[] b) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(b));
  }

  static void serve(String host, int port) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress(host, port), 64);
    s.createContext("/", x -> {
      try {
        byte[] r = sum(x.getRequestBody().readAllBytes()).getBytes();
        x.sendResponseHeaders(200, r.length);
        x.getResponseBody().write(r);
        x.close();
      } catch (Exception e) {
        throw new IOException(e);
      }
    });
    s.setExecutor(Executors.newFixedThreadPool(4));
    s.start();
  }

  static void talk(String url) throws Exception {
    HttpClient c = HttpClient.newHttpClient();
    List<CompletableFuture<Boolean>> all = new ArrayList<>();
    Random random = new Random(1);
    for (int i = 0; i < 40; i++) {
      byte[] b = new byte[i * 3000];
      random.nextBytes(b);
      String want = sum(b);
      all.add(c.sendAsync(HttpRequest.newBuilder(URI.create(url)).POST(HttpRequest.BodyPublishers.ofByteArray(b)).build(),
          HttpResponse.BodyHandlers.ofString()).thenApply(x -> x.body().equals(want)));
    }
    for (var f : all)
      if (!f.get())
        throw new Exception("another answer");
    for (int i = 0; i < 5; i++) {
      byte[] b = new byte[100000];
      random.nextBytes(b);
      HttpURLConnection u = (HttpURLConnection) new URL(url).openConnection();
      u.setDoOutput(true);
      u.getOutputStream().write(b);
      if (!new String(u.getInputStream().readAllBytes()).equals(sum(b)))
        throw new Exception("another answer");
    }
    System.out.println("good");
    System.exit(0);
  }

  static void loop() throws Exception {
    ServerSocket s = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"));
    Socket c = new Socket("127.0.0.1", s.getLocalPort());
    Socket p = s.accept();
    c.getOutputStream().write("hello".getBytes());
    System.out.println(new String(p.getInputStream().readNBytes(5)));
  }

  public static void main(String[] a) throws Exception {
    if (a[0].equals("serve"))
      serve(a[1], Integer.parseInt(a[2]));
    else if (a[0].equals("talk"))
      talk("http://" + a[1] + ":" + a[2] + "/");
    else
      loop();
  }
}
"""


class Java(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        source = os.path.join(cls.lab.world.app_dir, "Web.java")
        with open(source, "w", encoding="ascii") as f:
            f.write(SOURCE)
        run(["javac", "-J-XX:-UsePerfData", "-J-XX:TieredStopAtLevel=1", source], 150)
        for name in os.listdir(cls.lab.world.app_dir):
            os.chmod(os.path.join(cls.lab.world.app_dir, name), 0o644)
        cls.java = ["java", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", cls.lab.world.app_dir, "Web"]

    @row("java HttpServer, HttpClient, HttpURLConnection", "both",
         "45 posts, 40 of them at once, sha256; LDP_DEBUG says that the JVM is on the stack, and that loopback is the kernel's")
    def test_java(self):
        for port, (server, client) in enumerate(PAIRS, 10801):
            with self.subTest(server=server, client=client):
                address = programs.address_of(server, client)
                serving = self.lab.spawn(server, [*self.java, "serve", address, port])
                programs.wait_listening(self.lab, server, port)
                more = {"env": {"LDP_DEBUG": "1"}} if client == "app" else {}
                done = self.lab.run(client, [*self.java, "talk", address, port], 60, **more)
                self.assertEqual(done.stdout, b"good\n")
                if client == "app":
                    self.assertRegex(done.stderr.decode(), r'ldp\[\d+\]: attached to the stack as "java"\n')
                serving.stop()
        done = self.lab.app([*self.java, "loop"], 60, env={"LDP_DEBUG": "1"})
        self.assertEqual(done.stdout, b"hello\n")
        self.assertRegex(done.stderr.decode(), r"ldp\[\d+\]: .*kernel")


if __name__ == "__main__":
    netcase.main()
