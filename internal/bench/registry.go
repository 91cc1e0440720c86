package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// counts are what was asked of a registry, as command registry tells it.
type counts struct {
	Requests    map[string]int
	OneBlob     int                 // most requests for one blob
	Carriers    int                 // connections that layers were asked for on
	Chains      map[string][]string // on the wide-area link: requests that may have waited for one another, by repository
	Bytes       int64               // on limited links only
	Connections int                 // most open at once
}

// String is the number of requests and what they were for: "3: GET manifest, 2 GET blob".
func (c counts) String() string { return fmt.Sprint(c.total()) + c.kinds() }

// kinds is what requests were for: ": GET manifest, 2 GET blob".
func (c counts) kinds() string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(c.Requests)) {
		if n := c.Requests[kind]; n > 1 {
			kind = fmt.Sprintf("%d %s", n, kind)
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		return ""
	}
	return ": " + strings.Join(kinds, ", ")
}

// total is the number of requests.
func (c counts) total() (n int) {
	for _, k := range c.Requests {
		n += k
	}
	return n
}

// elsewhere is the number of those that other servers than the registry got.
func (c counts) elsewhere() (n int) {
	for kind, k := range c.Requests {
		if strings.HasSuffix(kind, " storage") || strings.HasSuffix(kind, " token") {
			n += k
		}
	}
	return n
}

// A registry serves the images, in a process of its own: what it costs is not
// counted to a client.
type registry struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	host  string
}

// makeImages fills the directory of images.
func (b *bench) makeImages(ctx context.Context, specs []string) error {
	b.progress("making images")
	cmd := b.command(ctx, b.bin("registry"), append([]string{"make", "-dir", b.images()}, specs...)...)
	cmd.Stderr = b.stderr
	return cmd.Run()
}

// digest is that of an image.
func (b *bench) digest(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(b.images(), "images.json"))
	if err != nil {
		return "", err
	}
	var catalog struct{ Tags map[string]string }
	if err := json.Unmarshal(data, &catalog); err != nil {
		return "", err
	}
	if catalog.Tags[name] == "" {
		return "", fmt.Errorf("image %q was not made", name)
	}
	return catalog.Tags[name], nil
}

// serve starts the registry; link are flags that limit what a connection carries.
func (b *bench) serve(ctx context.Context, link ...string) (*registry, error) {
	r := &registry{cmd: b.command(ctx, b.bin("registry"), append([]string{"serve", "-dir", b.images()}, link...)...)}
	r.cmd.Stderr = b.stderr
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.lines = bufio.NewReader(stdout)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := r.lines.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the registry did not start: %w", err), r.close())
	}
	r.host = strings.TrimSpace(line)
	return r, nil
}

// counts are those since the last call.
func (r *registry) counts() (counts, error) {
	if err := r.ask(); err != nil {
		return counts{}, err
	}
	return r.answer(func() {})
}

// ask makes the registry answer.
func (r *registry) ask() error {
	_, err := io.WriteString(r.stdin, "\n")
	return err
}

// answer waits for the counts that were asked for, and calls told each time the
// registry tells meanwhile that it sent what its flag -tell says.
func (r *registry) answer(told func()) (c counts, err error) {
	for {
		line, err := r.lines.ReadBytes('\n')
		if err != nil {
			return c, err
		}
		if string(line) != "sent\n" {
			return c, json.Unmarshal(line, &c)
		}
		told()
	}
}

// close ends the registry: it does by itself when its standard input ends.
func (r *registry) close() error {
	stuck := time.AfterFunc(10*time.Second, func() { _ = r.cmd.Process.Kill() })
	defer stuck.Stop()
	return errors.Join(r.stdin.Close(), r.cmd.Wait())
}
