// Command files pulls an artifact, such as a model or a Helm chart, and writes its files
// into a directory:
//
//	files [-o DIR] [-store DIR] [-link] [-sub DIR] [flags of pull] IMAGE
//	files            (a demonstration on loopback)
//
// The directory must be absent, or one that an earlier call has made of the same artifact.
// In that case the program writes nothing. It prints the names of the files with their sizes.
// The blobs stay in the store, for the next artifact that shares them. With -link the files
// are the store's blobs and take up no room of their own, except those that were in a tar.
// The directory and the store must not be in each other.
//
// The flags are those of the example pull, except that -o of pull is -store here, and that
// -f and -parallel, which are for several images, are not here.
//
// It exits with 0 if the directory has all files, 1 if it has not, and 2 for wrong usage.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/puller/unpack"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the settings from the command line.
type options struct {
	out, store string
	files      unpack.Config
	config     string
	secrets    []string
	platform   ocispec.Platform
	policy     pullpolicy.Policy
	parser     reference.Parser
	plainHTTP  bool
	wait       bool
	explain    bool
	json       bool
	image      reference.Reference
	written    string // the name as it was given
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	o.platform = index.Host()
	flags := flag.NewFlagSet("files", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: files [flags] IMAGE\n       files            (a demonstration on loopback)\n\n"+
			"The flags are those of pull, but -store is pull's -o. There is no -f and no -parallel, because they are for\nseveral images.\n\nflags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.out, "o", "", "`directory` to make (default: the last part of the repository)")
	flags.StringVar(&o.store, "store", "images", "OCI image layout `directory` in which the blobs are kept")
	flags.BoolVar(&o.files.Link, "link", false, "make read-only hard links to the blobs in the store")
	flags.StringVar(&o.files.SubPath, "sub", "", "write only this `directory` of the artifact")
	flags.BoolVar(&o.files.Verify, "verify", false, "hash all files of a directory that an earlier call has made")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials (default: $DOCKER_CONFIG/config.json, then the usual places)")
	flags.Func("secret", "`file` of imagePullSecret manifests, YAML or JSON; repeatable", func(s string) error {
		o.secrets = append(o.secrets, s)
		return nil
	})
	flags.Func("platform", "`OS/ARCH[/VARIANT]` to pull for, if the artifact has several (default: this machine's)", func(s string) (err error) {
		o.platform, err = index.ParsePlatform(s)
		return err
	})
	flags.Func("policy", "pull `policy`: Always, IfNotPresent or Never (default: Always for :latest, else IfNotPresent)", func(s string) (err error) {
		o.policy, err = pullpolicy.Parse(s)
		return err
	})
	flags.Func("registry", "`host` of a name without one (default: docker.io)", func(s string) error {
		o.parser.Registry = s
		_, err := o.parser.Parse("app")
		return err
	})
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registry of the artifact")
	flags.BoolVar(&o.wait, "wait", false, "try again after each back-off, until the artifact is pulled or cannot be pulled")
	flags.BoolVar(&o.explain, "explain", false, "print what a pull would do and why, as JSON, and do not pull")
	flags.BoolVar(&o.json, "json", false, "print events and files as JSON lines")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() != 1 {
		return o, fmt.Errorf("%d images are named; name one", flags.NArg())
	}
	o.written = flags.Arg(0)
	if o.image, err = o.parser.Parse(o.written); err != nil {
		return o, err
	}
	if o.out == "" {
		o.out = path.Base(o.image.Repository())
	}
	return o, nil
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(status int, err error) int {
		fmt.Fprintln(stderr, "files:", oneLine(err))
		return status
	}
	if len(args) == 0 {
		if err := demo(ctx, stdout); err != nil {
			return fail(1, err)
		}
		return 0
	}
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return fail(2, err)
	}
	if err := files(ctx, o, stdout, stderr); err != nil {
		return fail(1, err)
	}
	return 0
}

// files pulls the artifact of o, writes its files, and prints their names to stdout. It
// prints what the pull does to stderr, or with -json to stdout.
func files(ctx context.Context, o options, stdout, stderr io.Writer) error {
	pods, node, err := readCredentials(o)
	if err != nil {
		return err
	}
	if !o.explain {
		if err := checkOut(o.out, o.store); err != nil {
			return err
		}
	}
	store, err := layout.Open(o.store, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	var plain []string
	if o.plainHTTP {
		plain = []string{o.image.Registry()}
	}
	source, err := registry.New(registry.Config{PlainHTTP: plain, UserAgent: "pullkit-example-files"})
	if err != nil {
		return err
	}
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	if err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	event := func(e puller.Event) {
		if o.json {
			out.Encode(e)
		} else if e.Message != "" {
			fmt.Fprintln(stderr, e.Message)
		}
	}
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: node, Platform: o.platform, Parser: o.parser, Events: event})
	if err != nil {
		return err
	}
	req := puller.Request{Image: o.written, Policy: o.policy, Keyring: pods}
	if o.explain {
		decision, err := p.Explain(ctx, req)
		if err != nil {
			return err
		}
		out.SetIndent("", "  ")
		return out.Encode(decision)
	}
	pull := p.Pull
	if o.wait {
		pull = p.PullWait
	}
	img, err := pull(ctx, req)
	if err != nil {
		return err
	}
	// With the digest, Lookup finds the manifest that was pulled, even if the name points to
	// another one by now.
	ref, err := img.Ref.WithDigest(img.Manifest)
	if err != nil {
		return err
	}
	manifest, err := store.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	written, err := unpack.Files(ctx, store, manifest, o.out, o.files)
	if err != nil {
		return err
	}
	for _, f := range written {
		if o.json {
			out.Encode(f)
			continue
		}
		name := printable(path.Join(o.out, f.Name))
		if f.Link != "" {
			name += " -> " + printable(f.Link)
		}
		fmt.Fprintf(stdout, "%12d  %s\n", f.Size, name)
	}
	return nil
}

// checkOut returns an error if out cannot become the directory of the files. It is called
// before the pull. A directory that an earlier call has made is checked after the pull, by
// unpack.Files.
func checkOut(out, store string) error {
	a, err := realPath(out)
	if err != nil {
		return err
	}
	b, err := realPath(store)
	if err != nil {
		return err
	}
	if within(a, b) || within(b, a) {
		return fmt.Errorf("-o %q and -store %q are the same directory, or one is in the other: give another one with -o", out, store)
	}
	info, err := os.Lstat(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		_, err = os.Lstat(filepath.Join(out, ".pullkit"))
	}
	if err == nil && !info.IsDir() || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q: %w", out, unpack.ErrTaken)
	}
	return err
}

// realPath returns the absolute path of a file, without symbolic links. The file and its
// directories need not exist.
func realPath(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(name)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		parent := filepath.Dir(name)
		if !errors.Is(err, fs.ErrNotExist) || parent == name {
			return "", err
		}
		name, rest = parent, filepath.Join(filepath.Base(name), rest)
	}
}

// within reports whether name is the directory dir or a path in it.
func within(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && filepath.IsLocal(rel)
}

// printable returns a name as it is, or quoted if it has characters that a terminal does not
// show as they are.
func printable(name string) string {
	hidden := func(r rune) bool { return !strconv.IsPrint(r) }
	if !utf8.ValidString(name) || strings.ContainsFunc(name, hidden) {
		return strconv.Quote(name)
	}
	return name
}

// errNoSecret is the reason for a manifest that was probably named by mistake.
var errNoSecret = errors.New("it has no Secret")

// readCredentials reads the credentials of the secrets and those of the node.
func readCredentials(o options) (pods, node credentials.Keyring, err error) {
	config, err := credentials.FindFile(slices.Concat(credentials.DockerPaths(), credentials.ContainersPaths()), credentials.Rules{})
	if o.config != "" {
		config, err = credentials.ReadFile(o.config, credentials.Rules{})
	}
	if err != nil {
		return nil, nil, err
	}
	var all []credentials.Secret
	for _, name := range o.secrets {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		secrets, err := credentials.ParseSecrets(data)
		if err != nil || len(secrets) == 0 {
			return nil, nil, fmt.Errorf("%s: %w", name, cmp.Or(err, errNoSecret))
		}
		all = append(all, secrets...)
	}
	return credentials.FromSecrets(all, credentials.Rules{}), config.WithHelpers(credentials.Exec{}), nil
}

// oneLine returns err as one line, with a hint about what the user can do.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	switch {
	case errors.Is(err, unpack.ErrTaken), errors.Is(err, unpack.ErrChanged):
		text += " (remove the directory, or give another one with -o)"
	case errors.Is(err, unpack.ErrNoLink):
		text += " (give a -store on the same file system, or leave out -link)"
	case errors.Is(err, context.Canceled):
		text += " (interrupted; what has arrived is kept, run again to continue)"
	}
	return text
}
