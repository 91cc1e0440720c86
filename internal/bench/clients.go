package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A job is what a client is to pull, and where to.
type job struct {
	host, repository string
	tag, digest      string        // one of them
	names            []string      // of many images
	list             string        // file with those names
	parallel         int           // of pullkit: images at a time
	dir              string        // of the OCI layout
	index            bool          // choose platform
	tls              bool          // speak https
	connections      int           // of an ideal, 0 = one for each processor
	limit            time.Duration // how long it may take, 0 = clientLimit
	policy           string        // pullkit's: the others have none
}

// platform is what is chosen from an index.
const platform = "linux/amd64"

// name is the image's.
func (j job) name() string {
	if j.digest != "" {
		return j.host + "/" + j.repository + "@" + j.digest
	}
	return j.host + "/" + j.repository + ":" + j.tag
}

// label is what the image is called in a layout that wants a tag.
func (j job) label() string {
	if j.digest != "" {
		return "image"
	}
	return j.tag
}

// A client pulls images by a program.
type client struct {
	name    string
	program string
	pull    func(j job) []string
	many    func(j job) []string // many images by one process; nil: it cannot
	ideal   bool                 // no client, but what the machine gives
	base    bool                 // ours, as it was
}

// pullkit is the name of ours.
const pullkit = "pullkit"

// peer reports whether a client is another's.
func (c client) peer() bool { return !c.ideal && !c.base && c.name != pullkit }

// clients are all programs, in the order in which they take turns. skopeo syncs
// each blob and pullkit all it writes, with its names; the others sync nothing.
// An ideal comes after pullkit, whose number of connections it may take.
func (b *bench) clients() []client {
	all := []client{
		{name: "crane", program: b.bin("crane"), pull: cranePull, many: craneMany},
		{name: "skopeo", program: b.skopeo, pull: skopeoPull},
		{name: "oras-go", program: b.bin("orascp"), pull: orasPull},
		{name: "regctl", program: b.bin("regctl"), pull: regctlPull},
		{name: pullkit, program: b.bin("pull"), pull: pullkitPull, many: pullkitMany},
		{name: b.base, program: b.bin("base"), pull: pullkitPull, many: pullkitMany, base: true},
		{name: "ideal-inline", program: b.bin("ideal"), pull: idealPull(), ideal: true},
		{name: "ideal-pipe", program: b.bin("ideal"), pull: idealPull("-pipe"), ideal: true},
	}
	var there []client
	for _, c := range all {
		if c.program != "" && c.name != "" && b.onlyClients.MatchString(c.name) {
			there = append(there, c)
		}
	}
	return there
}

// clientsThat are those that keep holds for.
func (b *bench) clientsThat(keep func(client) bool) []client {
	var clients []client
	for _, c := range b.clients() {
		if keep(c) {
			clients = append(clients, c)
		}
	}
	return clients
}

// realClients are those that a user could take.
func (b *bench) realClients() []client {
	return b.clientsThat(func(c client) bool { return !c.ideal })
}

// named are the clients of those names, ours and the base.
func (b *bench) named(names ...string) []client {
	return b.clientsThat(func(c client) bool { return slices.Contains(names, c.name) || !c.ideal && !c.peer() })
}

// plain returns args for http, and nothing for https.
func (j job) plain(args ...string) []string {
	if j.tls {
		return nil
	}
	return args
}

func cranePull(j job) []string {
	args := append([]string{"pull", "--format=oci"}, j.plain("--insecure")...)
	if j.index {
		args = append(args, "--platform", platform)
	}
	return append(args, j.name(), j.dir)
}

func craneMany(j job) []string {
	args := append([]string{"pull", "--format=oci"}, j.plain("--insecure")...)
	if j.index {
		args = append(args, "--platform", platform)
	}
	return append(append(args, j.names...), j.dir)
}

func skopeoPull(j job) []string {
	os, arch, _ := strings.Cut(platform, "/")
	args := append([]string{"--insecure-policy", "--override-os", os, "--override-arch", arch, "copy", "--quiet"},
		j.plain("--src-tls-verify=false")...)
	return append(args, "docker://"+j.name(), "oci:"+j.dir+":"+j.label())
}

func orasPull(j job) []string {
	args := j.plain("-plain-http")
	if j.index {
		args = append(args, "-platform", platform)
	}
	return append(args, j.name(), j.dir)
}

func regctlPull(j job) []string {
	args := []string{"image", "copy"}
	if !j.tls {
		args = append([]string{"--host", "reg=" + j.host + ",tls=disabled"}, args...)
	}
	if j.index {
		args = append(args, "--platform", platform)
	}
	return append(args, j.name(), "ocidir://"+j.dir+":"+j.label())
}

func idealPull(flags ...string) func(job) []string {
	return func(j job) []string {
		args := append(append([]string{}, flags...), j.plain("-plain-http")...)
		if j.connections > 0 {
			args = append(args, "-connections", fmt.Sprint(j.connections))
		}
		return append(args, j.name(), j.dir)
	}
}

func pullkitPull(j job) []string {
	return append(j.plain("-plain-http"), "-policy", j.policy, "-platform", platform, "-o", j.dir, j.name())
}

func pullkitMany(j job) []string {
	return append(j.plain("-plain-http"), "-policy", j.policy, "-platform", platform, "-parallel", fmt.Sprint(j.parallel), "-f", j.list, "-o", j.dir)
}
