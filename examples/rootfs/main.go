// Command rootfs pulls an image and makes its root file system, while layers still come:
//
//	rootfs -o DIR [-store DIR] [-devices] [-sync] [flags of pull] IMAGE
//	rootfs           (a demonstration on loopback)
//
// The root file system is DIR/rootfs, so that DIR can become the bundle of an OCI runtime.
// DIR must be absent, or one that an earlier call has made of the same image. In that case
// the program makes nothing.
//
// As other tools do, the program does not wait until the files are on disk, unless -sync is
// given. Without it, DIR is not taken for whole after the machine was started again: a later
// call then says that DIR must be removed.
//
// The blobs are kept next to DIR, as .DIR.blobs, only until DIR is whole. A call that failed,
// or was interrupted or killed, leaves them, and the next one goes on with them. With -store
// they are kept in an OCI image layout, for the next image that shares them.
//
// As root, files get the owners, extended attributes and set-ID bits of the image. Any other
// user owns all files, and what was left out is printed.
//
// The flags are those of the example pull, except that -o of pull is -store here, and that
// -f and -parallel, which are for several images, are not here.
//
// It exits with 0 if DIR is whole, 1 if it is not, and 2 for wrong usage.
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
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/rootfs"
	"github.com/pullkit/pullkit/puller/transfer"
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
	rootfs     rootfs.Config
	config     string
	secrets    []string
	platform   ocispec.Platform
	policy     pullpolicy.Policy
	plainHTTP  bool
	wait       bool
	explain    bool
	json       bool
	image      reference.Reference
	written    string // the name as it was given
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	o.platform = index.Host()
	flags := flag.NewFlagSet("rootfs", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: rootfs -o DIR [flags] IMAGE\n       rootfs           (a demonstration on loopback)\n\n"+
			"The flags are those of pull, but -store is pull's -o. There is no -f and no -parallel, because they are for\nseveral images.\n\nflags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.out, "o", "", "`directory` to make; the root file system is its subdirectory rootfs")
	flags.StringVar(&o.store, "store", "", "OCI image layout `directory` in which the blobs are kept (default: they are removed when the root file system is whole)")
	flags.BoolVar(&o.rootfs.Devices, "devices", false, "make the devices of the image; only as root")
	sync := flags.Bool("sync", false, "wait until the files are on disk; without it later calls refuse the directory after the machine was started again")
	flags.StringVar(&o.config, "config", "", "config.json `file` with credentials (default: $DOCKER_CONFIG/config.json, then the usual places)")
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
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registry of the image")
	flags.BoolVar(&o.wait, "wait", false, "try again after each back-off, until the image is pulled or cannot be pulled")
	flags.BoolVar(&o.explain, "explain", false, "print what a pull would do and why, as JSON, and do not pull")
	flags.BoolVar(&o.json, "json", false, "print events and the result as JSON lines")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() != 1 {
		return o, fmt.Errorf("%d images are named; name one", flags.NArg())
	}
	o.rootfs.NoSync = !*sync
	o.written = flags.Arg(0)
	if o.image, err = reference.Parse(o.written); err != nil {
		return o, err
	}
	if o.out == "" && !o.explain {
		return o, errors.New("-o is missing: give the directory to make")
	}
	return o, nil
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(status int, err error) int {
		fmt.Fprintln(stderr, "rootfs:", oneLine(err))
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
	if err := makeRootFS(ctx, o, stdout, stderr); err != nil {
		return fail(1, err)
	}
	return 0
}

// maxBlobs is how many blobs are fetched at the same time. It is small, so that layers come
// one after the other, and the first ones are unpacked while others are fetched.
const maxBlobs = 3

// makeRootFS pulls the image of o and makes its root file system. It prints what the pull does
// to stderr, or with -json to stdout.
func makeRootFS(ctx context.Context, o options, stdout, stderr io.Writer) error {
	pods, node, err := readCredentials(o)
	if err != nil {
		return err
	}
	_, err = rootfs.Read(o.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !o.explain {
		return err
	}
	made := err == nil
	store, done, err := openStore(o, made || o.explain)
	if err != nil {
		return err
	}
	defer done(false)
	var plain []string
	if o.plainHTTP {
		plain = []string{o.image.Registry()}
	}
	source, err := registry.New(registry.Config{PlainHTTP: plain, UserAgent: "pullkit-example-rootfs"})
	if err != nil {
		return err
	}
	rt, err := transfer.New(transfer.Config{Store: store, Source: source, MaxBlobs: maxBlobs})
	if err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	req := puller.Request{Image: o.written, Policy: o.policy, Keyring: pods}
	newPuller := func(events func(puller.Event)) (*puller.Puller, error) {
		return puller.New(puller.Config{Runtime: rt, Keyring: node, Platform: o.platform, Events: func(e puller.Event) {
			events(e)
			if o.json {
				out.Encode(e)
			} else if e.Message != "" {
				fmt.Fprintln(stderr, e.Message)
			}
		}})
	}
	printResult := func(result rootfs.Result, err error) error {
		if err != nil {
			return err
		}
		if o.json {
			return out.Encode(result)
		}
		_, err = fmt.Fprintln(stdout, describe(o.out, result))
		return err
	}
	if o.explain || made {
		p, perr := newPuller(func(puller.Event) {})
		if perr != nil {
			return perr
		}
		decision, perr := p.Explain(ctx, req)
		if perr != nil {
			return perr
		}
		if o.explain {
			out.SetIndent("", "  ")
			return out.Encode(decision)
		}
		if decision.Manifest != "" { // enough to see whether DIR is of this image, so no blob is fetched
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: decision.Manifest}
			return printResult(rootfs.Unpack(ctx, store, desc, o.out, o.rootfs))
		}
	}
	_, result, err := rootfs.Pull(ctx, store, o.out, o.rootfs, func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
		p, err := newPuller(events)
		if err != nil {
			return puller.Image{}, err
		}
		if o.wait {
			return p.PullWait(ctx, req)
		}
		return p.Pull(ctx, req)
	})
	if err != nil {
		return err
	}
	return printResult(result, done(true))
}

// openStore opens the layout in which the blobs are kept. nothing says that no blob is to be
// fetched. done closes the layout, and removes a layout that is only for this image if whole or
// nothing is true.
func openStore(o options, nothing bool) (store *layout.Layout, done func(whole bool) error, err error) {
	if o.store != "" {
		store, err = layout.Open(o.store, layout.Config{})
		return store, func(bool) error { return store.Close() }, err
	}
	dir := ""
	if nothing {
		dir, err = os.MkdirTemp("", "rootfs-explain-")
	} else if dir, err = filepath.Abs(o.out); err == nil {
		dir = filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".blobs")
	}
	if err == nil && !nothing {
		err = makePrivate(dir)
	}
	if err != nil {
		return nil, nil, err
	}
	store, err = layout.Open(dir, layout.Config{Volatile: true})
	return store, func(whole bool) error {
		err := store.Close()
		if whole || nothing {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}, err
}

// makePrivate makes a directory that only this user can read, because the blobs may be those
// of a private image.
func makePrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // a call that was killed has made it
	}
	return err
}

// describe returns a line about what was made, and about what of the image was left out.
func describe(dir string, r rootfs.Result) string {
	text := fmt.Sprintf("%s: %d layers, %d entries, %d bytes", filepath.Join(dir, "rootfs"), r.Layers, r.Files, r.Bytes)
	if r.Present {
		text += "; was there already"
	}
	for _, part := range []struct {
		n    int
		what string
	}{
		{r.SetID, "have set-user-ID or set-group-ID bits"},
		{r.Dropped.Owners, "belong to the caller and not to the image's owners"},
		{r.Dropped.XAttrs, "extended attributes were left out"},
		{r.Dropped.SetID, "lost set-user-ID or set-group-ID bits"},
		{r.Dropped.Devices, "devices were left out"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf("; %d %s", part.n, part.what)
		}
	}
	return text
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
	case errors.Is(err, rootfs.ErrTaken):
		text += " (remove the directory, or give another one with -o)"
	case errors.Is(err, context.Canceled):
		text += " (interrupted; what has arrived is kept, run again to continue)"
	}
	return text
}
