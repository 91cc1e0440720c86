#!/usr/bin/env bash
# As a pull-through cache, distribution 3.1.2 treats requests for a blob that it does not have
# yet (a cold blob) differently from requests for a blob that it has.
#
# 1. For a cold blob it ignores Range. It answers 200 with the whole blob and without
#    Accept-Ranges, and fetches the whole blob from the registry. When it has the blob, the
#    same request gets 206 and the 8 bytes of the range. If a client goes on from an offset,
#    or splits a blob into ranges, the cache therefore sends the whole cold blob once for each
#    of these requests.
# 2. For a cold blob it does not join equal requests. If four clients ask for the blob at the
#    same time, the registry gets four GETs.
#
# The script needs Go and its module proxy. It exits with 0 as long as distribution
# behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
GOBIN=$dir go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2 >log 2>&1 || { cat log; exit 1; }
cat >go.mod <<'END'
module finding

go 1.25.0
END
cat >main.go <<'END'
// The program is the registry behind the cache, and the clients in front of it.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const clients = 4

// A registry serves any blob that is in blobs, and counts the GETs. Each GET waits until as
// many GETs as wait says have come.
type registry struct {
	blobs map[string][]byte

	mu   sync.Mutex
	gets int
	wait int
	all  chan struct{}
}

func (g *registry) expect(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gets, g.wait, g.all = 0, n, make(chan struct{})
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, digest, ok := strings.Cut(r.URL.Path, "/blobs/")
	if !ok {
		return // GET /v2/
	}
	if r.Method == http.MethodGet {
		g.mu.Lock()
		g.gets++
		if g.gets == g.wait {
			close(g.all)
		}
		all := g.all
		g.mu.Unlock()
		select {
		case <-all:
		case <-time.After(20 * time.Second): // fewer GETs came than expected
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(g.blobs[digest]))
}

func main() {
	reg := &registry{blobs: make(map[string][]byte)}
	var names []string
	for seed := range 2 {
		blob := bytes.Repeat([]byte{byte(seed), 1, 2, 3}, 1<<18)
		names = append(names, fmt.Sprintf("sha256:%x", sha256.Sum256(blob)))
		reg.blobs[names[seed]] = blob
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go http.Serve(l, reg)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	addr := free.Addr().String()
	check(free.Close())
	check(os.WriteFile("config.yml", fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: store}}
http: {addr: "%s"}
proxy: {remoteurl: "http://%s"}
`, addr, l.Addr()), 0o600))
	cache := exec.Command("./registry", "serve", "config.yml")
	cache.Stderr = os.Stderr
	check(cache.Start())
	defer cache.Process.Kill()
	for i := 0; ; i++ {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			break
		}
		if i == 2000 {
			log.Fatal("the cache does not listen")
		}
		time.Sleep(10 * time.Millisecond)
	}
	get := func(digest, bytesRange string) (*http.Response, int64) {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v2/some/repo/blobs/"+digest, nil)
		check(err)
		if bytesRange != "" {
			req.Header.Set("Range", bytesRange)
		}
		resp, err := http.DefaultClient.Do(req)
		check(err)
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		check(err)
		return resp, n
	}
	stored := func(digest string) bool {
		_, err := os.Stat("store/docker/registry/v2/blobs/sha256/" + digest[7:9] + "/" + digest[7:] + "/data")
		return err == nil
	}

	reg.expect(1)
	for _, what := range []string{"cold", "warm"} {
		resp, n := get(names[0], "bytes=1048568-")
		fmt.Printf("%s: status %d, Accept-Ranges %q, %d bytes\n", what, resp.StatusCode, resp.Header.Get("Accept-Ranges"), n)
		for i := 0; !stored(names[0]) && i < 2000; i++ {
			time.Sleep(10 * time.Millisecond)
		}
	}
	fmt.Println("GETs at the registry:", reg.gets)

	reg.expect(clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { get(names[1], "") })
	}
	wg.Wait()
	fmt.Println("GETs at the registry for", clients, "clients at once:", reg.gets)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
END
go run . >got
cat >want <<'END'
cold: status 200, Accept-Ranges "", 1048576 bytes
warm: status 206, Accept-Ranges "bytes", 8 bytes
GETs at the registry: 1
GETs at the registry for 4 clients at once: 4
END
diff -u want got
cat got
