"""A source and a replica as the chart makes them, without Kubernetes.

Configuration and probes are the chart's, the programs run in the built images. Each pod is a host of its own; what
kubelet does to volumes is done by hand. The servers are the test bed's, with the chart's options and statements.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.flavours import Flavour
from testbed.hosts import Host
from testbed.servers import Server
from tests.deploy.definition import stages
from tests.deploy.helm import one
from tests.deploy.kubelet import Pod, ProjectedVolume
from tests.integration.lab import Authority, Leaf

PASSWORD = 'it\'s a \\ "word" of $HOME'
SOURCE, REPLICA = (f"db-binlock-{side}.shop.svc.cluster.local" for side in ("source", "replica"))
IMAGES = {Flavour.MYSQL_9_7: "docker.io/library/mysql:9.7.0", Flavour.MARIADB_11_8: "docker.io/library/mariadb:11.8.2"}
# Of the servers' options these are about the containers' paths, and the test bed has its own.
OF_PATHS = ("--socket=", "--pid-file=", "--secure-file-priv=", "--server-id=")
# A scrape as the PodMonitor describes it: by address, with a certificate, and the name that is expected.
SCRAPE = """
import http.client, socket, ssl, sys
address, name, ca, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
class Connection(http.client.HTTPSConnection):
    def connect(self):
        self.sock = context.wrap_socket(socket.create_connection((address, 9307), 10), server_hostname=name)
connection = Connection(address)
connection.request("GET", "/metrics")
print(connection.getresponse().read().decode())
"""


def values(flavour: Flavour) -> dict[str, Any]:
    return {
        "proxy": {"allow": ["10.77.0.0/24"]},
        "certificates": {"issuerRef": {"name": "site"}, "crlConfigMap": "given-crl"},
        "source": {
            "enabled": True,
            "passwords": "given-passwords",
            "flavour": "mariadb" if flavour.is_mariadb else "mysql",
            "image": IMAGES[flavour],
        },
        "replicas": {"enabled": True, "count": 1},
        "monitor": {"interfaces": ["br0"], "ports": [3306, 3307], "admin": {"mode": "loopback"}},
        "prometheus": {"podMonitors": True},
    }


class Side:
    """A pod with a server and its proxy, and the volumes that the proxy reads."""

    def __init__(self, side: str, flavour: Flavour, objects: list[Any], authority: Authority, folder: Path) -> None:
        self.side = side
        self._authority = authority
        self._objects = objects
        self._folder = folder
        self.pod = one(objects, "StatefulSet", f"db-binlock-{side}")["spec"]["template"]["spec"]
        (self._container,) = self.pod["initContainers"]
        (self._server_container,) = self.pod["containers"]
        self.configuration = one(objects, "ConfigMap", f"db-binlock-{side}")["data"]["proxy.toml"]
        self.volume = ProjectedVolume(folder / f"{side}-volume")
        self._flavour = flavour
        self.leaf = authority.issue("proxy", {"source": SOURCE, "replica": REPLICA}[side])
        self.server: Server
        self.proxy: Pod

    def place(self, host: Host, root: Path, hosts: Path) -> None:
        arguments = self._server_container["args"]
        assert arguments[0] == ("mariadbd" if self._flavour.is_mariadb else "mysqld")
        (number,) = [
            word.partition("=")[2].replace("$(POD_INDEX)", "0") for word in arguments if "--server-id=" in word
        ]
        options = [word for word in arguments[1:] if not word.startswith(OF_PATHS)]
        self.server = Server(
            self._folder / self.side, self._flavour, server_id=int(number), host=host, port=3306, options=options
        )
        # The volume `mysqld`, which the pod's group may use.
        self.server.socket_path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mounts = {self.volume.folder: "/etc/binlock", hosts: "/etc/hosts"}
        if self.side == "source":
            mounts[self.server.socket_path.parent] = "/run/mysqld"
        self.fill()
        log = self._folder / f"{self.side}-proxy.log"
        self.proxy = Pod(self._container, stages()["proxy"], root, host, mounts, log)

    def fill(self, leaf: Leaf | None = None, key: bytes | None = None) -> None:
        """What is in the projection: the configuration, the secret and the list, as the pod's volume names them."""
        leaf = leaf or self.leaf
        secret = {
            "tls.crt": leaf.certificate.read_bytes(),
            "tls.key": key or leaf.key.read_bytes(),
            "ca.crt": self._authority.ca.read_bytes(),
        }
        contents = {
            f"db-binlock-{self.side}": {"proxy.toml": self.configuration.encode()},
            f"db-binlock-{self.side}-tls": secret,
            "given-crl": {"ca.crl": self._authority.crl.read_bytes()},
        }
        (volume,) = [volume for volume in self.pod["volumes"] if volume["name"] == "binlock"]
        files: dict[str, bytes] = {}
        for entry in volume["projected"]["sources"]:
            (source,) = entry.values()
            files |= {item["path"]: contents[source["name"]][item["key"]] for item in source["items"]}
        self.volume.write(files)

    def initialise(self) -> None:
        """What the image's entry point would do once: sources the script, which hands it statements."""
        script = one(self._objects, "ConfigMap", f"db-binlock-{self.side}-initialise")["data"]["replication.sh"]
        done = subprocess.run(
            ["bash", "-euc", "docker_process_sql() { cat; }\n" + script],
            env={"REPLICATION_PASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        for statement in filter(str.strip, done.stdout.split(";\n")):
            self.server.sql(statement)

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.proxy.program.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] in names]

    def awaits(
        self, event: str, times: int, matches: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The event, once it has come so often."""
        self.proxy.program.wait_for(
            lambda: len([each for each in self.events(event) if matches(each)]) >= times, f"{event}, {times} times"
        )
        return [each for each in self.events(event) if matches(each)][times - 1]
