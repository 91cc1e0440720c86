package main

import "strings"

// A job is what a client is to pull, and where to.
type job struct {
	host, repository string
	tag, digest      string // one of them
	tags             []string
	list             string // file with all names of tags
	dir              string // of the OCI layout
	index            bool   // choose platform
	policy           string // pullkit's: the others have none
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

// names are those of all tags.
func (j job) names() []string {
	var names []string
	for _, tag := range j.tags {
		names = append(names, j.host+"/"+j.repository+":"+tag)
	}
	return names
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
}

// pullkit is the name of ours.
const pullkit = "pullkit"

// clients are all programs, in the order in which they take turns. skopeo syncs
// each blob and pullkit all it writes, with its names; the others sync nothing.
func (b *bench) clients() []client {
	all := []client{
		{name: "crane", program: b.bin("crane"), pull: cranePull, many: craneMany},
		{name: "skopeo", program: b.skopeo, pull: skopeoPull},
		{name: "oras-go", program: b.bin("orascp"), pull: orasPull},
		{name: "regctl", program: b.bin("regctl"), pull: regctlPull},
		{name: "ideal-inline", program: b.bin("ideal"), pull: idealPull(), ideal: true},
		{name: "ideal-pipe", program: b.bin("ideal"), pull: idealPull("-pipe"), ideal: true},
		{name: pullkit, program: b.bin("pull"), pull: pullkitPull, many: pullkitMany},
	}
	var there []client
	for _, c := range all {
		if c.program != "" {
			there = append(there, c)
		}
	}
	return there
}

// realClients are those that a user could take.
func (b *bench) realClients() []client {
	var clients []client
	for _, c := range b.clients() {
		if !c.ideal {
			clients = append(clients, c)
		}
	}
	return clients
}

func cranePull(j job) []string {
	args := []string{"pull", "--insecure", "--format=oci"}
	if j.index {
		args = append(args, "--platform", platform)
	}
	return append(args, j.name(), j.dir)
}

func craneMany(j job) []string {
	return append(append([]string{"pull", "--insecure", "--format=oci"}, j.names()...), j.dir)
}

func skopeoPull(j job) []string {
	os, arch, _ := strings.Cut(platform, "/")
	return []string{
		"--insecure-policy", "--override-os", os, "--override-arch", arch,
		"copy", "--quiet", "--src-tls-verify=false", "docker://" + j.name(), "oci:" + j.dir + ":" + j.label(),
	}
}

func orasPull(j job) []string {
	if j.index {
		return []string{"-platform", platform, j.name(), j.dir}
	}
	return []string{j.name(), j.dir}
}

func regctlPull(j job) []string {
	args := []string{"--host", "reg=" + j.host + ",tls=disabled", "image", "copy"}
	if j.index {
		args = append(args, "--platform", platform)
	}
	return append(args, j.name(), "ocidir://"+j.dir+":"+j.label())
}

func idealPull(flags ...string) func(job) []string {
	return func(j job) []string { return append(append([]string{}, flags...), j.name(), j.dir) }
}

func pullkitPull(j job) []string {
	return []string{"-plain-http", "-policy", j.policy, "-platform", platform, "-o", j.dir, j.name()}
}

func pullkitMany(j job) []string {
	return []string{"-plain-http", "-policy", j.policy, "-platform", platform, "-parallel", "32", "-f", j.list, "-o", j.dir}
}
