package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A job says what a client pulls, and where it stores that.
type job struct {
	host, repository string
	tag, digest      string        // one of them is set
	names            []string      // of many images
	list             string        // file with these names
	parallel         int           // for pullkit: images at a time
	dir              string        // of the OCI layout
	index            bool          // the image is an index: choose platform
	tls              bool          // use https
	connections      int           // for an ideal: connections for layers, 0 = one for each processor
	limit            time.Duration // how long the pull may take, 0 = clientLimit
	policy           string        // for pullkit: the pull policy, which other clients do not have
}

// platform is the platform that clients choose from an index.
const platform = "linux/amd64"

// name returns the name of the image.
func (j job) name() string {
	if j.digest != "" {
		return j.host + "/" + j.repository + "@" + j.digest
	}
	return j.host + "/" + j.repository + ":" + j.tag
}

// label returns the tag of the image in a layout, for clients that need one there.
func (j job) label() string {
	if j.digest != "" {
		return "image"
	}
	return j.tag
}

// A client is a program that pulls images.
type client struct {
	name    string
	program string               // path
	pull    func(j job) []string // returns the arguments that pull one image
	many    func(j job) []string // the same for many images by one process; nil = the program cannot do that
	ideal   bool                 // not a client: it shows what the machine can do
	base    bool                 // pullkit at the commit of the flag -base
}

// pullkit is the name of the client of this repository.
const pullkit = "pullkit"

// peer reports whether a client is a program of another project.
func (c client) peer() bool { return !c.ideal && !c.base && c.name != pullkit }

// clients returns all clients that are installed and that the flag -clients matches, in the
// order in which they take turns. An ideal comes after pullkit, because it may take over
// pullkit's number of connections. skopeo syncs each blob, and pullkit syncs all that it
// writes, names included. The other clients sync nothing.
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

// clientsThat returns the clients for which keep returns true.
func (b *bench) clientsThat(keep func(client) bool) []client {
	var clients []client
	for _, c := range b.clients() {
		if keep(c) {
			clients = append(clients, c)
		}
	}
	return clients
}

// realClients returns all clients except the ideals.
func (b *bench) realClients() []client {
	return b.clientsThat(func(c client) bool { return !c.ideal })
}

// named returns the clients with these names, pullkit and the base.
func (b *bench) named(names ...string) []client {
	return b.clientsThat(func(c client) bool { return slices.Contains(names, c.name) || !c.ideal && !c.peer() })
}

// plain returns args if the job uses http, and nil if it uses https.
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
