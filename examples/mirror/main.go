// Command mirror pulls three times through a mirror in front of a registry, all on
// loopback. For the first pull, the mirror's URL is set in Go. For the second, it is in a
// hosts.toml as containerd reads it, and the mirror stops in the middle of a blob. For the
// third, the mirror is gone. After each pull the command prints what the mirror and the
// registry have served. No pull fails, and the bytes that have arrived are kept.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/puller/transfer"
)

const (
	// name is the registry in the image's name. The servers have other addresses.
	name      = "registry.example"
	image     = "team/app:v1"
	layerSize = 32 << 20
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: mirror    (a demonstration on loopback; it takes no arguments)")
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	mirror, err := start()
	if err != nil {
		return err
	}
	defer mirror.Close()
	origin, err := start()
	if err != nil {
		return err
	}
	defer origin.Close()
	s := servers{out, mirror, origin}

	inGo, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{name: {
		Mirrors: []registry.Host{{URL: "http://" + mirror.Host()}},
		Server:  registry.Host{URL: "http://" + origin.Host()},
	}}})
	if err != nil {
		return err
	}
	if err := s.pull(ctx, "The mirror's URL is set in Go", inGo); err != nil {
		return err
	}

	certs, err := os.MkdirTemp("", "certs.d-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(certs)
	text, err := s.writeHosts(certs)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s/hosts.toml:\n%s", name, text)
	stopping, err := registry.New(registry.Config{HostsReader: certsd.Dir(certs), DialContext: stopAfter(layerSize/4, mirror)})
	if err != nil {
		return err
	}
	if err := s.pull(ctx, "The URL is in hosts.toml, and the mirror stops in the middle of a blob", stopping); err != nil {
		return err
	}
	without, err := registry.New(registry.Config{HostsReader: certsd.Dir(certs)})
	if err != nil {
		return err
	}
	return s.pull(ctx, "The mirror is gone", without)
}

func start() (*pullertest.Registry, error) {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return nil, err
	}
	_, err = reg.PutImage(image, pullertest.ImageSpec{Layers: []int64{layerSize}}) // both servers have the same content
	return reg, err
}

type servers struct {
	out            io.Writer
	mirror, origin *pullertest.Registry
}

// writeHosts makes the directory that containerd calls certs.d.
func (s servers) writeHosts(certs string) (string, error) {
	text := fmt.Sprintf(`server = "http://%s"

[host."http://%s"]
  capabilities = ["pull", "resolve"]
`, s.origin.Host(), s.mirror.Host())
	dir := filepath.Join(certs, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return text, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644)
}

// pull pulls into an empty store and prints what each server has served.
func (s servers) pull(ctx context.Context, what string, client *registry.Client) error {
	defer client.CloseIdleConnections()
	s.mirror.ResetCounts()
	s.origin.ResetCounts()
	// With one connection the figures are easy to read.
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}, Source: client, MaxConnsPerBlob: 1})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{Runtime: rt})
	if err != nil {
		return err
	}
	img, err := p.Pull(ctx, puller.Request{Image: name + "/" + image})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n-- %s:\n%s %s\n", what, img.Ref, img.Digest)
	for _, server := range []struct {
		name string
		reg  *pullertest.Registry
	}{{"mirror", s.mirror}, {"origin", s.origin}} {
		n := server.reg.Counts()
		fmt.Fprintf(s.out, "  %s  %d for manifests, %d for blobs, %5.1f MiB\n", server.name, n.ManifestHead+n.ManifestGet, n.BlobHead+n.BlobGet, float64(n.BlobBytes)/(1<<20))
	}
	return nil
}

// stopAfter returns a function that dials. It stops reg when limit bytes were read from the
// connections to reg.
func stopAfter(limit int64, reg *pullertest.Registry) func(ctx context.Context, network, addr string) (net.Conn, error) {
	var left atomic.Int64
	left.Store(limit)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil || addr != reg.Host() {
			return conn, err
		}
		return &counted{conn, &left, reg}, nil
	}
}

type counted struct {
	net.Conn
	left *atomic.Int64
	reg  *pullertest.Registry
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left.Add(-int64(n)) <= 0 {
		c.reg.Close()
	}
	return n, err
}
