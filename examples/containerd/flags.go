package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/pullpolicy"
)

// options are the settings from the command line.
type options struct {
	images    []string
	address   string // absolute path of the socket
	namespace string
	pin       bool
	private   bool
	config    string
	secrets   []string
	platform  ocispec.Platform
	policy    pullpolicy.Policy
	plainHTTP bool
	explain   bool
	json      bool
	wait      bool
	parallel  int
}

// maxListLine is the longest line of the -f file that is read, in bytes. It is much longer
// than any image name.
const maxListLine = 4096

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{platform: containerd.Platform()}
	var list string
	flags := flag.NewFlagSet("containerd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.address, "address", "/run/containerd/containerd.sock", "`socket` of containerd")
	flags.StringVar(&o.namespace, "namespace", containerd.KubernetesNamespace, "`namespace` of containerd; the kubelet's is k8s.io")
	flags.BoolVar(&o.pin, "pin", false, "pin the images, so that the kubelet's garbage collection keeps them (containerd 1.7 and later)")
	flags.BoolVar(&o.private, "private", false, "also pull images that only a secret opens, although every Pod of the node may then use them")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials of the node (default: $DOCKER_CONFIG/config.json, then the usual places)")
	flags.Func("secret", "`file` of imagePullSecret manifests, YAML or JSON; repeatable", func(s string) error {
		o.secrets = append(o.secrets, s)
		return nil
	})
	flags.Func("platform", "`OS/ARCH[/VARIANT]` to pull for (default: containerd's on this machine)", func(s string) (err error) {
		o.platform, err = index.ParsePlatform(s)
		return err
	})
	flags.Func("policy", "pull `policy`: Always, IfNotPresent or Never (default: Always for :latest, else IfNotPresent)", func(s string) (err error) {
		o.policy, err = pullpolicy.Parse(s)
		return err
	})
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registries of the named images")
	flags.BoolVar(&o.explain, "explain", false, "print what a pull would do and why, and do not pull")
	flags.BoolVar(&o.json, "json", false, "print events, or with -explain the decision, as JSON lines")
	flags.BoolVar(&o.wait, "wait", false, "try again after each back-off, until the image is pulled or cannot be pulled")
	flags.StringVar(&list, "f", "", "`file` with one image a line, - for standard input; # starts a comment")
	flags.IntVar(&o.parallel, "parallel", 4, "`number` of images pulled at a time")
	flags.Usage = func() {}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, "usage: containerd -address SOCKET [flags] IMAGE...\n\nflags:\n")
			flags.SetOutput(stderr)
			flags.PrintDefaults()
			return o, err
		}
		return o, fmt.Errorf("%w; run with -h for the flags", err)
	}
	if o.namespace == "" { // containerd.New takes "" for this namespace too
		o.namespace = containerd.KubernetesNamespace
	}
	o.images = flags.Args()
	if list != "" {
		more, err := readList(list)
		if err != nil {
			return o, err
		}
		o.images = append(o.images, more...)
	}
	switch {
	case len(o.images) == 0:
		return o, errors.New("no image is named; give one or more, or -h for the flags")
	case slices.ContainsFunc(flags.Args(), func(image string) bool { return strings.HasPrefix(image, "-") }):
		return o, errors.New("a flag comes after an image; give all flags before the first image")
	case o.address == "":
		return o, errors.New("-address is empty; give the path of containerd's socket")
	case o.parallel < 1:
		return o, fmt.Errorf("-parallel %d: give 1 or more", o.parallel)
	}
	address, err := filepath.Abs(strings.TrimPrefix(o.address, "unix://"))
	o.address = address
	return o, err
}

// readList reads a file with one image name on each line.
func readList(name string) ([]string, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("list of images: %w", err)
		}
		defer f.Close()
		in = f
	}
	var images []string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxListLine)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			images = append(images, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list of images %s: %w", name, err)
	}
	return images, nil
}
