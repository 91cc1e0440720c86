package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A fleet is a number of nodes of examples/fleet. They pull one image at the same time, from a
// registry whose connections share one link.
const (
	fleetName  = "fleet"
	fleetRate  = 100_000_000 // bytes a second of the registry's link
	fleetLimit = 10 * time.Minute
)

func fleetRow(b *bench) row { return b.sized("", "fleet", 8, 32*mib, nil) }

// fleetSecond returns another image. It shows whether the nodes still ask the node that has
// served wrong bytes.
func fleetSecond(b *bench) row {
	r := fleetRow(b)
	r.image = "fleet-second"
	return r
}

func fleetImages(b *bench) []string { return []string{fleetRow(b).spec(), fleetSecond(b).spec()} }

// fleetSize returns the number of nodes, and how many of them are killed.
func (b *bench) fleetSize() (nodes, killed int) {
	if b.short {
		return 6, 2
	}
	return 20, 5
}

// A fleetNode is a process of examples/fleet.
type fleetNode struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *json.Decoder
	gossip string
}

// A fleetLine is what a node prints.
type fleetLine struct {
	Gossip, Error                  string
	FromOrigin, FromPeers, ToPeers int64
	Members                        int
}

// ask sends a command to a node and waits for the answer.
func (n *fleetNode) ask(command string) (l fleetLine, err error) {
	if _, err := io.WriteString(n.stdin, command+"\n"); err != nil {
		return l, err
	}
	err = n.lines.Decode(&l)
	if err == nil && l.Error != "" {
		err = errors.New(l.Error)
	}
	return l, err
}

func (n *fleetNode) end() error {
	stuck := time.AfterFunc(10*time.Second, func() { _ = n.cmd.Process.Kill() })
	defer stuck.Stop()
	return errors.Join(n.stdin.Close(), n.cmd.Wait())
}

// fleetNodes are the nodes of one run.
type fleetNodes []*fleetNode

// startFleet starts nodes with empty stores, and waits until each of them knows all others.
// flags returns additional flags of a node.
func (b *bench) startFleet(ctx context.Context, dir, host string, count int, flags func(i int) []string) (nodes fleetNodes, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, nodes.end())
		}
	}()
	for i := range count {
		args := append([]string{"node", "-dir", filepath.Join(dir, fmt.Sprint(i)), "-registry", host, "-plain-http"}, flags(i)...)
		if i > 0 {
			args = append(args, "-join", nodes[0].gossip)
		}
		n := &fleetNode{cmd: b.command(ctx, b.bin("fleet"), args...)}
		n.cmd.Stderr = b.stderr
		if n.stdin, err = n.cmd.StdinPipe(); err != nil {
			return nodes, err
		}
		stdout, err := n.cmd.StdoutPipe()
		if err != nil {
			return nodes, err
		}
		n.lines = json.NewDecoder(bufio.NewReader(stdout))
		if err := n.cmd.Start(); err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
		var first fleetLine
		if err := n.lines.Decode(&first); err != nil {
			return nodes, fmt.Errorf("node %d did not start: %w", i, err)
		}
		n.gossip = first.Gossip
	}
	return nodes, nodes.settle(ctx)
}

// settle returns when each node knows all others.
func (f fleetNodes) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i, n := range f {
		for {
			l, err := n.ask("stats")
			if err != nil {
				return err
			}
			if l.Members == len(f) {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("node %d knows %d of %d nodes", i, l.Members, len(f))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// pull lets all nodes pull at the same time, and returns the error of each node.
func (f fleetNodes) pull(image string) []error {
	errs := make([]error, len(f))
	var all sync.WaitGroup
	for i, n := range f {
		all.Go(func() { _, errs[i] = n.ask("pull " + image) })
	}
	all.Wait()
	return errs
}

func (f fleetNodes) end() error {
	errs := make([]error, len(f))
	var all sync.WaitGroup
	for i, n := range f {
		all.Go(func() { errs[i] = n.end() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// A fleetRun is the result of one run.
type fleetRun struct {
	seconds float64 // until the last node had the image
	times   float64 // bytes that the registry sent, in multiples of the image
	failed  int     // of the nodes that were not killed
	cpu     float64 // seconds of all nodes that were not killed
	wrong   float64 // MiB that the node with wrong bytes sent for the first image
	later   float64 // MiB that it sent for the second image
}

// A fleetKind has the settings of a run.
type fleetKind struct {
	name  string
	flags func(i int) []string
	kill  bool // some nodes are killed when half of the image was sent
	wrong bool // node 0 serves wrong bytes
	cache func(ctx context.Context, dir, origin string) (*cache, error)
}

// fleetRun does one run.
func (b *bench) fleetRun(ctx context.Context, k fleetKind) (r fleetRun, err error) {
	row := fleetRow(b)
	count, kills := b.fleetSize()
	dir, err := b.fresh("fleet")
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	reg, err := b.serve(ctx, "-all-rate", fmt.Sprint(fleetRate), "-tell", fmt.Sprint(row.bytes()/2))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	flags := k.flags
	if k.cache != nil {
		c, err := k.cache(ctx, dir, reg.host)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		flags = func(int) []string { return []string{"-alone", "-mirror", "http://" + c.host} }
	}
	nodes, err := b.startFleet(ctx, dir, reg.host, count, flags)
	if err != nil {
		return r, err
	}
	defer func() {
		err = errors.Join(err, nodes.end())
		for _, n := range nodes {
			r.cpu += (n.cmd.ProcessState.UserTime() + n.cmd.ProcessState.SystemTime()).Seconds()
		}
		b.progress("%-24s %-40s %7.2f s, cpu %6.2f s, %.2f x the image from the registry, %d failed", fleetName, k.name, r.seconds, r.cpu, r.times, r.failed)
	}()
	if _, err := reg.begin(ctx); err != nil {
		return r, err
	}
	watched := nodes
	var victims fleetNodes
	if k.kill {
		watched, victims = nodes[:count-kills], nodes[count-kills:]
	}
	began := time.Now()
	var errs []error
	pulled := make(chan error, 1)
	go func() {
		go victims.pull(reg.host + "/" + row.image + ":1")
		errs = watched.pull(reg.host + "/" + row.image + ":1")
		r.seconds = time.Since(began).Seconds()
		pulled <- reg.ask()
	}()
	counted, err := reg.answer(func() {
		for _, n := range victims {
			_ = n.cmd.Process.Kill()
		}
	})
	if err = errors.Join(err, <-pulled); err != nil {
		return r, err
	}
	if k.kill {
		for _, n := range victims {
			_ = n.cmd.Wait()
		}
		nodes = watched
	}
	r.times = float64(counted.Bytes) / float64(row.bytes())
	for _, err := range errs {
		if err != nil {
			r.failed++
			b.progress("%-24s a node failed: %v", fleetName, err)
		}
	}
	if k.wrong {
		before, err := nodes[0].ask("stats")
		if err != nil {
			return r, err
		}
		for _, err := range nodes.pull(reg.host + "/" + fleetSecond(b).image + ":1") {
			if err != nil {
				r.failed++
			}
		}
		after, err := nodes[0].ask("stats")
		if err != nil {
			return r, err
		}
		r.wrong, r.later = float64(before.ToPeers)/mib, float64(after.ToPeers-before.ToPeers)/mib
	}
	return r, nil
}

func runFleet(ctx context.Context, b *bench) error {
	row := fleetRow(b)
	count, kills := b.fleetSize()
	before := report.Load()
	none := func(int) []string { return nil }
	kinds := []fleetKind{
		{name: "without each other", flags: func(int) []string { return []string{"-alone"} }},
		{name: "from each other", flags: none},
		{name: fmt.Sprintf("from each other, %d killed", kills), flags: none, kill: true},
		{name: "from each other, one with wrong bytes", wrong: true, flags: func(i int) []string {
			if i == 0 {
				return []string{"-wrong"}
			}
			return nil
		}},
	}
	t := &report.Table{
		Title: fmt.Sprintf("%d cold nodes at the same time: %s, a link of %d MB/s", count, row.name, fleetRate/1_000_000),
		Head:  []string{"nodes pull", "all done after, s", "CPU time of all nodes, s", "x the image from the registry", "nodes that failed", "goal", "reached"},
	}
	if b.nginx != "" {
		kinds = append(kinds, fleetKind{name: "through nginx with proxy_cache_lock", cache: b.nginxCache})
	} else {
		t.Note("nginx is not installed (apt-get install nginx).")
	}
	if b.varnish != "" {
		kinds = append(kinds, fleetKind{name: "through varnish", cache: b.varnishCache})
	} else {
		t.Note("varnish is not installed (apt-get install varnish).")
	}
	var alone float64
	for _, k := range kinds {
		r, err := b.fleetRun(ctx, k)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if k.cache == nil {
			b.failed += r.failed
		}
		var goals []report.Goal
		name := k.name
		switch {
		case k.kill:
			goals = append(goals, report.AtMost(float64(r.failed), 0, "nodes that fail"))
		case k.wrong:
			goals = append(goals, report.AtMost(float64(r.failed), 0, "nodes that fail"), report.AtMost(r.later, 0, "MiB from that node for the next image"))
			name += fmt.Sprintf(" (it sent %.0f MiB)", r.wrong)
		case k.cache != nil:
		case alone == 0:
			alone = r.seconds
		default:
			goals = append(goals, report.AtMost(r.times, 1.2, "x the image"), report.AtMost(r.seconds/alone, 0.35, "x the time without each other"))
		}
		figures := fmt.Sprintf("%.2f s, %.2f x", r.seconds, r.times)
		for _, g := range goals {
			b.reach(t.Title+", "+k.name, g, figures, "", "")
		}
		want, reached := report.Cells(goals...)
		t.Add(name, fmt.Sprintf("%.2f", r.seconds), fmt.Sprintf("%.1f", r.cpu), fmt.Sprintf("%.2f", r.times), fmt.Sprint(r.failed), want, reached)
	}
	t.Note("One round. All stores, and those of the caches, are on one file system, %s; %d processors run all nodes. Load %s before, %s after.",
		fileSystem(b.dir), processors(), before, report.Load())
	return b.print(t)
}

// A cache is a program between the nodes and the registry.
type cache struct {
	host string
	cmd  *exec.Cmd
	said tail
}

func (c *cache) close() error {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // its error says that it was killed
	return nil
}

// startCache starts a cache, and returns when it listens.
func (b *bench) startCache(ctx context.Context, host, program string, args ...string) (*cache, error) {
	c := &cache{host: host, cmd: b.command(ctx, program, args...)}
	c.cmd.Stderr = &c.said
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for began := time.Now(); time.Since(began) < startLimit; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", host); err == nil {
			return c, conn.Close()
		}
	}
	_ = c.close()
	return nil, fmt.Errorf("%s does not listen: %s", program, lastLine(string(c.said)))
}

// nginxCacheConfig is the configuration that the doc of package registry gives, in a file with
// which an ordinary user can start nginx.
const nginxCacheConfig = `daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path tmp;
	fastcgi_temp_path tmp;
	uwsgi_temp_path tmp;
	scgi_temp_path tmp;
	proxy_cache_path cache keys_zone=images:10m max_size=20g inactive=7d use_temp_path=off;
	server {
		listen %[1]s;
		location /v2/ {
			proxy_pass http://%[2]s;
		}
		location ~ ^/v2/.+/blobs/ {
			proxy_pass http://%[2]s;
			proxy_cache images;
			proxy_cache_key $uri;
			proxy_cache_valid 200 7d;
			proxy_cache_lock on;
			proxy_cache_lock_timeout 10m;
			proxy_cache_lock_age 10m;
		}
	}
}
`

func (b *bench) nginxCache(ctx context.Context, dir, origin string) (*cache, error) {
	host, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(fmt.Sprintf(nginxCacheConfig, host, origin)), 0o600); err != nil {
		return nil, err
	}
	return b.startCache(ctx, host, b.nginx, "-p", dir, "-c", "nginx.conf", "-e", "stderr")
}

// varnishConfig is the configuration that the doc of package registry gives.
const varnishConfig = `vcl 4.1;
backend origin { .host = "%s"; .port = "%s"; }
sub vcl_recv {
	if (req.url !~ "/blobs/") { return (pass); }
	unset req.http.Authorization;
	set req.url = regsub(req.url, "\?.*$", "");
}
sub vcl_backend_response { set beresp.ttl = 7d; }
`

func (b *bench) varnishCache(ctx context.Context, dir, origin string) (*cache, error) {
	host, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "varnish")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	originHost, port, _ := strings.Cut(origin, ":")
	vcl := filepath.Join(dir, "default.vcl")
	if err := os.WriteFile(vcl, []byte(fmt.Sprintf(varnishConfig, originHost, port)), 0o600); err != nil {
		return nil, err
	}
	return b.startCache(ctx, host, b.varnish, "-F", "-a", host, "-f", vcl, "-n", dir, "-s", "file,"+filepath.Join(dir, "store")+",4g", "-j", "none")
}
