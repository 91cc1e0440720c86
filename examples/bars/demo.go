package main

import (
	"context"
	"io"
	"net"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"

	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
)

// demo pulls two images from a registry on loopback. Each connection reads rate bytes a
// second; if rate is 0, it reads without a limit.
func demo(ctx context.Context, rate int, out io.Writer, options ...mpb.ContainerOption) error {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return err
	}
	defer reg.Close()
	for i, name := range []string{"team/app:v1", "team/db:v2"} {
		image := pullertest.ImageSpec{Layers: []int64{24 << 20, 9 << 20, 3 << 20, 300 << 10}, Seed: uint64(i)}
		if _, err := reg.PutImage(name, image); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "bars-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, err := registry.New(registry.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &slowConn{conn, rate}, err
	}})
	if err != nil {
		return err
	}
	return pull(ctx, dir, source, []string{reg.Host() + "/team/app:v1", reg.Host() + "/team/db:v2"}, out, options...)
}

// A slowConn reads at most rate bytes a second. If rate is 0, it reads without a limit.
type slowConn struct {
	net.Conn
	rate int
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.rate == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.rate/20)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}
