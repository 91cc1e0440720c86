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

// counts are the requests that a registry got, as command registry prints them.
type counts struct {
	Requests    map[string]int
	OneBlob     int                 // most requests for one blob
	Carriers    int                 // connections with a request for a layer
	Chains      map[string][]string // on the wide-area link: requests that may have waited for one another, by repository
	Bytes       int64               // on limited links only
	Connections int                 // most open at once
}

// String returns the number of requests and what they were for, such as
// "3: GET manifest, 2 GET blob".
func (c counts) String() string { return fmt.Sprint(c.total()) + c.kinds() }

// kinds returns what the requests were for, such as ": GET manifest, 2 GET blob".
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

// total returns the number of requests.
func (c counts) total() (n int) {
	for _, k := range c.Requests {
		n += k
	}
	return n
}

// elsewhere returns the number of requests to the token server and to the storage.
func (c counts) elsewhere() (n int) {
	for kind, k := range c.Requests {
		if strings.HasSuffix(kind, " storage") || strings.HasSuffix(kind, " token") {
			n += k
		}
	}
	return n
}

// A registry serves the images. It is a process of its own, so that its CPU time and memory do
// not count for a client.
type registry struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	host  string
}

// makeImages makes the images that specs name, in the registry's directory.
func (b *bench) makeImages(ctx context.Context, specs []string) error {
	b.progress("making images")
	cmd := b.command(ctx, b.bin("registry"), append([]string{"make", "-dir", b.images()}, specs...)...)
	cmd.Stderr = b.stderr
	return cmd.Run()
}

// digest returns the digest of an image, whose name is REPOSITORY:TAG.
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

// serve starts the registry. link are its flags.
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

// counts returns the counts since the last call.
func (r *registry) counts() (counts, error) {
	if err := r.ask(); err != nil {
		return counts{}, err
	}
	return r.answer(func() {})
}

// ask asks the registry for its counts. answer reads them.
func (r *registry) ask() error {
	_, err := io.WriteString(r.stdin, "\n")
	return err
}

// answer waits for the counts that were asked for. Until they come, it calls sent each time the
// registry reports that it has sent the bytes of its flag -tell.
func (r *registry) answer(sent func()) (c counts, err error) {
	for {
		line, err := r.lines.ReadBytes('\n')
		if err != nil {
			return c, err
		}
		if string(line) != "sent\n" {
			return c, json.Unmarshal(line, &c)
		}
		sent()
	}
}

// close ends the registry by the end of its standard input. A registry that hangs is killed.
func (r *registry) close() error {
	stuck := time.AfterFunc(10*time.Second, func() { _ = r.cmd.Process.Kill() })
	defer stuck.Stop()
	return errors.Join(r.stdin.Close(), r.cmd.Wait())
}
