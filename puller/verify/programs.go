package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/subprocess"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A Config has the settings of [Programs]. The zero Config has containerd's default
// limits, and gives no credential to the programs.
type Config struct {
	// Timeout is the longest time that one program may take. Zero means 10 seconds, as in
	// containerd. A puller.Puller waits two minutes for all programs together.
	Timeout time.Duration
	// MaxPrograms is how many files the directory may have. Zero means 10, as in containerd.
	// If the directory has more files, no image is admitted.
	MaxPrograms int
	// MaxOutput is how many bytes a program may write to its standard output. Zero means 32
	// KiB, as in containerd. Of its standard error, 64 KiB are read.
	MaxOutput int
	// Environ is the environment of the programs, apart from DOCKER_CONFIG: the values of
	// variables by their names. Nil means those variables of this process that the package
	// comment lists. A map that is empty but not nil means an empty environment.
	Environ map[string]credentials.Sensitive
	// PassCredential gives the programs the credential that opened the image: DOCKER_CONFIG
	// names a directory with it. Programs that read signatures from a private registry need
	// it. Without PassCredential, programs get the DOCKER_CONFIG of Environ.
	PassCredential bool
	// TempDir is the directory in which the directory with the credential is made. "" means
	// os.TempDir. With a directory on a file system in memory, the credential is never on the
	// disk.
	TempDir string
	// Version is part of the Fingerprint. Change Version if the programs decide by something
	// else, such as other keys or another Environ. Then the programs are asked again about
	// images that were admitted before. The Fingerprint also depends on the names, times and
	// contents of the programs. If a program cannot be read, the Fingerprint is "", so that
	// no answer is remembered.
	Version string
	// Logger gets the standard error of the programs, at level debug; nil = no log.
	Logger *slog.Logger
}

const (
	defaultTimeout     = 10 * time.Second
	defaultMaxPrograms = 10
	defaultMaxOutput   = 32 << 10
	// maxReason is how many bytes of a program's output an answer or an error has.
	maxReason = 300
	// listTime is how long the computation of a fingerprint may take.
	listTime = 5 * time.Second
)

// passedOn are the variables of this process that programs get by default.
var passedOn = []string{"PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

var passedOnWindows = []string{"SystemRoot", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PATHEXT"}

type programs struct {
	dir    string // absolute
	config Config // with its defaults

	mu   sync.Mutex
	sums map[string]sum // by the name of the program
}

// A sum is the hash of the content of a program. It is valid as long as file does not
// change.
type sum struct {
	file fs.FileInfo
	hash string
}

// Programs returns a check that runs the programs of a directory, which speak the protocol
// of containerd's image verifiers; see the package comment. An image is admitted if there
// is at least one program and all of them end with the status 0. The directory is read for
// each image. The error names a setting that is not valid.
func Programs(dir string, config Config) (content.Check, error) {
	if dir == "" {
		return nil, errors.New("verify: the directory of the programs is not set")
	}
	for _, limit := range []struct {
		field string
		value int64
	}{{"Timeout", int64(config.Timeout)}, {"MaxPrograms", int64(config.MaxPrograms)}, {"MaxOutput", int64(config.MaxOutput)}} {
		if limit.value < 0 {
			return nil, fmt.Errorf("verify: Config.%s is %d; give a positive number, or zero for the default", limit.field, limit.value)
		}
	}
	for name := range config.Environ {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, fmt.Errorf("verify: Config.Environ has %s, which is not the name of a variable", redact.Quote(name, 100))
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	config.MaxPrograms = cmp.Or(config.MaxPrograms, defaultMaxPrograms)
	config.MaxOutput = cmp.Or(config.MaxOutput, defaultMaxOutput)
	config.Environ = maps.Clone(config.Environ)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &programs{dir: abs, config: config}, nil
}

// Admit implements content.Check.
func (p *programs) Admit(ctx context.Context, image content.Admission) (by string, err error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	files, err := p.listWithin(ctx)
	if err != nil {
		return "", err
	}
	stdin, err := json.Marshal(ocispec.Descriptor{MediaType: image.Top.MediaType, Digest: image.Top.Digest, Size: image.Top.Size})
	if err != nil {
		return "", undecided("%w", err)
	}
	env := p.environ()
	if p.config.PassCredential {
		dir, fault := p.writeCredential(image.Repo)
		if fault != nil {
			return "", fault
		}
		defer func() {
			if fault := os.RemoveAll(dir); fault != nil && err == nil {
				by, err = "", undecided("the directory with the credential for the programs cannot be removed: %w", fault)
			}
		}()
		env = append(env, "DOCKER_CONFIG="+dir)
	}
	var admitted []string
	for _, f := range files {
		reason, err := p.run(ctx, f, image, subprocess.Command{
			Path: filepath.Join(p.dir, f.Name()), Env: env, Stdin: append(stdin, '\n'), Timeout: p.config.Timeout, MaxOutput: p.config.MaxOutput,
			Args: []string{"-name", image.Ref.String(), "-digest", string(image.Top.Digest), "-stdin-media-type", ocispec.MediaTypeDescriptor},
		})
		if err != nil {
			return "", err
		}
		admitted = append(admitted, strings.TrimSuffix(redact.Text(f.Name())+" => "+reason, " => "))
	}
	return strings.Join(admitted, ", "), nil
}

// Fingerprint implements content.Check. It is "" if the programs cannot be listed or read.
func (p *programs) Fingerprint() string {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	print, _ := await.Call(ctx, func() string { return p.fingerprint(ctx) })
	return print
}

func (p *programs) fingerprint(ctx context.Context) string {
	files, err := p.list()
	if err != nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sums := make(map[string]sum, len(files))
	h := sha256.New()
	fmt.Fprintf(h, "programs %q %q %t\n", p.dir, p.config.Version, p.config.PassCredential)
	for _, f := range files {
		s := p.sums[f.Name()]
		if s.file == nil || !os.SameFile(s.file, f.FileInfo) || s.file.Size() != f.Size() || !s.file.ModTime().Equal(f.ModTime()) {
			if s.hash, err = p.hash(ctx, f); err != nil {
				return ""
			}
			s.file = f.FileInfo
		}
		sums[f.Name()] = s
		fmt.Fprintf(h, "%q %s %d %o\n", f.Name(), s.hash, f.ModTime().UnixNano(), f.Mode())
	}
	p.sums = sums
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// hash returns the hash of the content of a program. The size and the time of a file are
// not enough, because all files of an image often have the same time.
func (p *programs) hash(ctx context.Context, f named) (string, error) {
	file, err := os.Open(filepath.Join(p.dir, f.Name()))
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	for {
		_, err := io.CopyN(h, file, 1<<20)
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		}
	}
}

// Explain implements content.CheckExplainer.
func (p *programs) Explain(reference.Reference) string {
	return "the programs in " + redact.Text(p.dir)
}

// An answer is the error for an image that was not admitted. Its text does not have the
// reason, because package puller adds the reason.
type answer struct {
	reason content.Reason
	err    error
}

func (a *answer) Error() string   { return a.err.Error() }
func (a *answer) Unwrap() []error { return []error{a.reason, a.err} }

// undecided returns an error that matches content.ErrCheckFailed: the check could not
// decide.
func undecided(format string, args ...any) error {
	return &answer{content.ErrCheckFailed, fmt.Errorf(format, args...)}
}

// listWithin is list with a context. It returns soon after the end of ctx, even if the file
// system does not answer.
func (p *programs) listWithin(ctx context.Context) ([]named, error) {
	var err error
	files, ok := await.Call(ctx, func() (files []named) {
		files, err = p.list()
		return files
	})
	if !ok {
		return nil, context.Cause(ctx)
	}
	return files, err
}

// list returns the files of the directory, sorted by name. It returns an error if a file
// cannot be run.
func (p *programs) list() ([]named, error) {
	dir, err := os.Open(p.dir)
	if err != nil {
		return nil, undecided("the directory of the programs: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(p.config.MaxPrograms + 1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, undecided("the directory of the programs: %w", err)
	case len(entries) == 0:
		return nil, undecided("the directory of the programs %s has no program", redact.Quote(p.dir, maxReason))
	case len(entries) > p.config.MaxPrograms:
		return nil, undecided("the directory of the programs %s has more than %d files", redact.Quote(p.dir, maxReason), p.config.MaxPrograms)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	files := make([]named, len(entries))
	for i, e := range entries {
		info, err := os.Stat(filepath.Join(p.dir, e.Name())) // follows links
		name := redact.Quote(e.Name(), maxReason)
		switch {
		case err != nil:
			return nil, undecided("program %s: %w", name, err)
		case !info.Mode().IsRegular():
			return nil, undecided("program %s is not a file", name)
		case runtime.GOOS != "windows" && info.Mode().Perm()&0o111 == 0:
			return nil, undecided("program %s is not executable (chmod +x)", name)
		}
		files[i] = named{info, e.Name()}
	}
	return files, nil
}

// A named is a FileInfo with the name from the directory. A link and its target can have
// different names.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }

// run runs one program and returns its output as one line. An error means that the program
// has not admitted the image.
func (p *programs) run(ctx context.Context, f fs.FileInfo, image content.Admission, c subprocess.Command) (string, error) {
	name := redact.Quote(f.Name(), maxReason)
	r := subprocess.Run(ctx, c)
	secrets := secretsOf(image.Repo.Cred)
	line := func(text []byte) string {
		return redact.Cut(redact.Text(redact.Secrets(strings.TrimSpace(string(text)), secrets...)), maxReason)
	}
	if said := line(r.Stderr); said != "" {
		p.config.Logger.DebugContext(ctx, "a program wrote to its standard error", "program", f.Name(), "text", said)
	}
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case r.TooLong:
		return "", undecided("program %s wrote more than %d bytes", name, c.MaxOutput)
	case r.TimedOut:
		return "", undecided("program %s took longer than %v: %w", name, c.Timeout, context.DeadlineExceeded)
	case r.Held:
		return "", undecided("program %s ended, but another process still holds its output open", name)
	case r.Err == nil:
		return line(r.Stdout), nil
	case errors.Is(r.Err, fs.ErrNotExist):
		what, interpreter := subprocess.Missing(c.Path)
		return "", undecided("program %s cannot be started: its %s is missing %s", name, cmp.Or(what, "file"), line([]byte(interpreter)))
	case !r.Exited:
		return "", undecided("program %s: %s", name, line([]byte(r.Err.Error())))
	}
	return "", &answer{content.ErrRefused, fmt.Errorf("program %s: %v: %s", name, r.Err, cmp.Or(line(r.Stdout), "it gave no reason"))}
}

// environ returns the environment of the programs. It leaves DOCKER_CONFIG out if
// PassCredential is set, because Admit then adds it.
func (p *programs) environ() []string {
	var env []string
	if p.config.Environ == nil {
		names := passedOn
		if runtime.GOOS == "windows" {
			names = slices.Concat(passedOn, passedOnWindows)
		}
		for _, name := range names {
			if value, ok := os.LookupEnv(name); ok {
				env = append(env, name+"="+value)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.config.Environ)) {
		if name != "DOCKER_CONFIG" || !p.config.PassCredential {
			env = append(env, name+"="+p.config.Environ[name].Reveal())
		}
	}
	return env
}

// hubServer is the key of Docker Hub in a config.json of docker.
const hubServer = "https://index.docker.io/v1/"

// writeCredential makes a directory with a config.json that has the credential of repo.
// The caller has to remove the directory.
func (p *programs) writeCredential(repo content.Repo) (dir string, err error) {
	cred := repo.Cred
	if cred.Origin.Key = repo.Ref.Registry(); cred.Origin.Key == "docker.io" {
		cred.Origin.Key = hubServer
	}
	data, dropped, err := credentials.MarshalConfig(one{cred})
	if err != nil || len(dropped) > 0 {
		return "", undecided("the credential of %s cannot be written as a config.json", redact.Quote(repo.Ref.Registry(), maxReason))
	}
	dir, err = os.MkdirTemp(p.config.TempDir, "pullkit-verify-") // with mode 0700
	if err != nil {
		return "", undecided("the credential for the programs cannot be written: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		return "", undecided("the credential for the programs cannot be written: %w", errors.Join(err, os.RemoveAll(dir)))
	}
	return dir, nil
}

// A one is a keyring with one credential.
type one struct{ cred credentials.Credential }

func (o one) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) { yield(o.cred, nil) }
}

func (o one) All() iter.Seq[credentials.Credential] {
	return func(yield func(credentials.Credential) bool) { yield(o.cred) }
}

// secretsOf returns the parts of a credential that must not be in a text.
func secretsOf(c credentials.Credential) []string {
	return []string{c.Password.Reveal(), c.IdentityToken.Reveal(), c.RegistryToken.Reveal()}
}
