package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// options are the settings from the command line, already checked.
type options struct {
	images    []string
	dir       string
	config    string
	secrets   []string
	platform  ocispec.Platform
	policy    pullpolicy.Policy
	parser    reference.Parser
	plainHTTP bool
	explain   bool
	json      bool
	wait      bool
	parallel  int
}

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("usage")

// maxListLine is the longest line of the -f file that is read, in bytes. It is much longer
// than any image name.
const maxListLine = 4096

// parseFlags parses the command line. The error is flag.ErrHelp for -h, wraps errUsage if
// the command line is wrong, and is another one if the -f file cannot be read.
func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{platform: index.Host()}
	var list string
	flags := flag.NewFlagSet("pull", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "o", "images", "OCI image layout `directory` to store into")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials of the node (default: $DOCKER_CONFIG/config.json, then the usual places)")
	flags.Func("secret", "`file` of imagePullSecret manifests, YAML or JSON; repeatable", func(s string) error {
		o.secrets = append(o.secrets, s)
		return nil
	})
	flags.Func("platform", "`OS/ARCH[/VARIANT]` to pull for (default: this machine's)", func(s string) (err error) {
		o.platform, err = index.ParsePlatform(s)
		return err
	})
	flags.Func("policy", "pull `policy`: Always, IfNotPresent or Never (default: Always for :latest, else IfNotPresent)", func(s string) (err error) {
		o.policy, err = pullpolicy.Parse(s)
		return err
	})
	flags.Func("registry", "`host` of names without one (default: docker.io)", func(s string) error {
		o.parser.Registry = s
		_, err := o.parser.Parse("app")
		return err
	})
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registries of the named images")
	flags.BoolVar(&o.explain, "explain", false, "print what a pull would do and why, and do not pull")
	flags.BoolVar(&o.json, "json", false, "print events, or with -explain the decision, as JSON lines")
	flags.BoolVar(&o.wait, "wait", false, "try again after each back-off, until the image is pulled or cannot be pulled")
	flags.StringVar(&list, "f", "", "`file` with one image a line, - for standard input; # starts a comment")
	flags.IntVar(&o.parallel, "parallel", 4, "`number` of images pulled at a time")
	flags.Usage = func() {}
	usage := func() {
		fmt.Fprint(stderr, "usage: pull [flags] IMAGE...\n       pull            (a demonstration on loopback)\n\nflags:\n")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			usage()
			return o, err
		}
		return o, fmt.Errorf("%w: %w; run with -h for the flags", errUsage, err)
	}
	o.images = flags.Args()
	if o.parallel < 1 {
		return o, fmt.Errorf("%w: -parallel %d: give 1 or more", errUsage, o.parallel)
	}
	if list != "" {
		more, err := readList(list)
		if err != nil {
			return o, err
		}
		o.images = append(o.images, more...)
	}
	if len(o.images) == 0 && len(args) > 0 {
		return o, fmt.Errorf("%w: no image is named; give one or more, or no arguments for a demonstration", errUsage)
	}
	return o, nil
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
