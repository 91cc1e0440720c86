package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// The sizes of the demonstration.
const (
	demoNodes  = 8
	demoLayers = 8
	demoLayer  = 2 << 20
	demoRate   = 8 << 20 // bytes a second of the origin's link
)

// A process is a node in a process of its own.
type process struct {
	label  string
	gossip string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    *json.Decoder
}

// startProcess starts a node, and returns when it is a member.
func startProcess(ctx context.Context, label string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{label: label, cmd: exec.CommandContext(ctx, program, append([]string{"node"}, args...)...)}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(bufio.NewReader(stdout))
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var first line
	if err := p.out.Decode(&first); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %w", label, err), p.end())
	}
	p.gossip = first.Gossip
	return p, nil
}

// ask sends a command and waits for its answer.
func (p *process) ask(command string) (l line, err error) {
	if _, err := io.WriteString(p.stdin, command+"\n"); err != nil {
		return l, fmt.Errorf("%s: %w", p.label, err)
	}
	if err := p.out.Decode(&l); err != nil {
		return l, fmt.Errorf("%s: %w", p.label, err)
	}
	if l.Error != "" {
		return l, fmt.Errorf("%s: %s", p.label, l.Error)
	}
	return l, nil
}

// end lets the node leave.
func (p *process) end() error {
	stuck := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()
	return errors.Join(p.stdin.Close(), p.cmd.Wait())
}

// kill ends the node as a loss of power does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // its error says that it was killed
}

// A fleet is the registry and the nodes of the demonstration.
type fleet struct {
	dir     string
	origin  *origin
	nodes   []*process // those that run
	started int        // how many were started, those that were killed included
	table   *tabwriter.Writer
}

func demo(ctx context.Context, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	origin, err := startOrigin(demoRate)
	if err != nil {
		return err
	}
	defer origin.close()
	spec := pullertest.ImageSpec{}
	for range demoLayers {
		spec.Layers = append(spec.Layers, demoLayer)
	}
	put, err := origin.registry.PutImage("team/app:v1", spec)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, blob := range put.Blobs {
		size += blob.Size
	}
	fmt.Fprintf(stdout, "A registry behind a link of %d MiB/s has an image of %.1f MiB.\n\n", demoRate>>20, mib(size))

	f := &fleet{dir: dir, origin: origin, table: tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)}
	defer func() { err = errors.Join(err, f.end()) }()
	fmt.Fprintln(f.table, "node\tpulled in\tMiB from the registry\tfrom nodes\tto nodes")
	if err := f.start(ctx, demoNodes); err != nil {
		return err
	}
	if err := f.pull(f.nodes); err != nil {
		return err
	}
	for _, p := range f.nodes[1:3] {
		p.kill()
		fmt.Fprintf(f.table, "%s\tis killed\t\t\t\n", p.label)
	}
	f.nodes = append(f.nodes[:1:1], f.nodes[3:]...)
	if err := f.start(ctx, 2); err != nil {
		return err
	}
	if err := f.pull(f.nodes[len(f.nodes)-2:]); err != nil {
		return err
	}
	if err := f.table.Flush(); err != nil {
		return err
	}
	sent := origin.registry.Counts().BlobBytes
	_, err = fmt.Fprintf(stdout, "\nThe registry sent %.1f MiB, %.2f x the image, for %d nodes.\n", mib(sent), float64(sent)/float64(size), f.started)
	return err
}

// start starts nodes, and returns when all nodes know each other. Each new node joins the
// first one.
func (f *fleet) start(ctx context.Context, count int) error {
	for range count {
		f.started++
		label := fmt.Sprintf("node %d", f.started)
		args := []string{"-dir", filepath.Join(f.dir, label), "-registry", f.origin.host, "-plain-http"}
		if len(f.nodes) > 0 {
			args = append(args, "-join", f.nodes[0].gossip)
		}
		p, err := startProcess(ctx, label, args...)
		if err != nil {
			return err
		}
		f.nodes = append(f.nodes, p)
	}
	return f.settle(ctx)
}

// settle waits until all nodes know each other.
func (f *fleet) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, p := range f.nodes {
		for {
			l, err := p.ask("stats")
			if err != nil {
				return err
			}
			if l.Members == len(f.nodes) {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s knows %d nodes of %d: %w", p.label, l.Members, len(f.nodes), ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// pull lets nodes pull at the same time, and adds a row for each to the table.
func (f *fleet) pull(nodes []*process) error {
	errs, pulled := make([]error, len(nodes)), make([]line, len(nodes))
	var all sync.WaitGroup
	for i, p := range nodes {
		all.Go(func() { pulled[i], errs[i] = p.ask("pull " + f.origin.host + "/team/app:v1") })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, p := range nodes {
		now, err := p.ask("stats")
		if err != nil {
			return err
		}
		fmt.Fprintf(f.table, "%s\t%.2f s\t%.1f\t%.1f\t%.1f\n", p.label, pulled[i].Seconds, mib(now.FromOrigin), mib(now.FromPeers), mib(now.ToPeers))
	}
	return nil
}

// end lets all nodes leave.
func (f *fleet) end() error {
	errs := make([]error, len(f.nodes))
	var all sync.WaitGroup
	for i, p := range f.nodes {
		all.Go(func() { errs[i] = p.end() })
	}
	all.Wait()
	return errors.Join(errs...)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
