#!/usr/bin/env bash
# containerd 2.4.2 reads the keys at the root of a hosts.toml as settings of the
# registry itself. Without a `server` key it takes only a part of them, and it
# reports nothing:
#
#   - `capabilities` and `override_path` are ignored: the registry keeps every
#     capability and the path /v2;
#   - `ca`, `client` and `[header]` take effect: a missing ca file is an error, and
#     the header is sent.
#
# With `server` all of these keys take effect. If a file has `server`, and also names the
# registry under [host] with fewer capabilities, the list of hosts has the registry twice: as
# a host, and then as the server with every capability. So the restriction has no effect.
#
# The script needs Go and its module proxy. It exits with 0 as long as containerd
# behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'EOF'
module finding

go 1.25.0

require github.com/containerd/containerd/v2 v2.4.2
EOF
cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
)

func main() {
	for _, file := range []struct{ name, text string }{
		{"root keys alone", "capabilities = [\"resolve\"]\noverride_path = true\n[header]\nx-key = \"v\"\n"},
		{"root keys and server", "server = \"https://reg.example\"\ncapabilities = [\"resolve\"]\noverride_path = true\n[header]\nx-key = \"v\"\n"},
		{"root ca alone", "ca = \"missing.crt\"\n"},
		{"registry as host and server", "server = \"https://reg.example\"\n[host.\"https://reg.example\"]\ncapabilities = [\"pull\"]\n"},
	} {
		dir, err := os.MkdirTemp(".", "certs")
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(file.text), 0o644); err != nil {
			log.Fatal(err)
		}
		hosts, err := config.ConfigureHosts(context.Background(), config.HostOptions{
			HostDir: func(string) (string, error) { return dir, nil },
		})("reg.example")
		fmt.Printf("%s: error %v\n", file.name, err != nil)
		for _, h := range hosts {
			fmt.Printf("  path %q resolve %v pull %v push %v header %q\n", h.Path, h.Capabilities.Has(docker.HostCapabilityResolve),
				h.Capabilities.Has(docker.HostCapabilityPull), h.Capabilities.Has(docker.HostCapabilityPush), h.Header["x-key"])
		}
	}
}
EOF
go mod tidy >/dev/null 2>&1
go run . >got 2>log || { cat log; exit 1; }
cat >want <<'EOF'
root keys alone: error false
  path "/v2" resolve true pull true push true header ["v"]
root keys and server: error false
  path "" resolve true pull false push false header ["v"]
root ca alone: error true
registry as host and server: error false
  path "/v2" resolve false pull true push false header []
  path "/v2" resolve true pull true push true header []
EOF
diff -u want got
cat got
