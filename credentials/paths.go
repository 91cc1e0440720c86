package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/internal/regular"
)

// ErrNoFile is wrapped by the error of a call that was given the paths of files of
// which none is there. It is never fs.ErrNotExist, which says of an image that it
// is not there.
var ErrNoFile = errors.New("file does not exist")

// ReadConfig reads the first of the files paths that holds a JSON object, and
// that one alone; see [ParseConfig]. Files that do not exist are passed over; one
// that cannot be used is passed over too and listed by [Config.Problems]; one that
// other users can read is used, and listed there with [ErrReadableByOthers]. If no
// file can be used the error says why of each, and wraps [ErrNoFile] if none of
// them is there, or none is given.
//
// It is for files that somebody named. [FindConfig] searches places in which there
// need not be one.
func ReadConfig(paths ...string) (*Config, error) { return Rules{}.ReadConfig(paths...) }

// ReadConfig is [ReadConfig] under the rules r.
func (r Rules) ReadConfig(paths ...string) (*Config, error) {
	c, err := r.FindConfig(paths...)
	if err != nil || c.name != "" {
		return c, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no credential file found: no path was given: %w", ErrNoFile)
	}
	quoted := make([]string, len(paths))
	for i, path := range paths {
		quoted[i] = quote(path)
	}
	return nil, fmt.Errorf("no credential file found at %s: %w", strings.Join(quoted, ", "), ErrNoFile)
}

// FindConfig is [ReadConfig] for places in which there need not be a file: where
// there is none the Config is empty, knows no credentials, and there is no error.
// A file that is there and cannot be used is still an error, if no other can.
//
// [KubeletPaths], [DockerPaths] and [ContainersPaths] give places to search;
// [ReadDocker] also knows the variable that docker reads.
func FindConfig(paths ...string) (*Config, error) { return Rules{}.FindConfig(paths...) }

// FindConfig is [FindConfig] under the rules r.
func (r Rules) FindConfig(paths ...string) (*Config, error) {
	var bad problemList
	for _, path := range paths {
		data, mode, err := readFile(path)
		if errors.Is(err, ErrNoFile) {
			continue
		}
		origin := Origin{Kind: KindFile, Name: path}
		if err != nil {
			bad = append(bad, problem{EntryError: &EntryError{Origin: origin, Err: err}})
			continue
		}
		c, err := r.ParseConfig(data, path)
		if err != nil {
			bad = append(bad, problem{EntryError: err.(*EntryError)})
			continue
		}
		if mode&0o077 != 0 && runtime.GOOS != "windows" && !r.Kubelet {
			bad = append(bad, problem{EntryError: &EntryError{Origin: origin, Err: ErrReadableByOthers}, aside: true})
		}
		c.problems = append(bad, c.problems...)
		return c, nil
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("no credential file can be used: %w", &leftOutError{bad.errors()})
	}
	return &Config{table: table{rules: r}}, nil
}

// readFile reads a regular file that is not larger than a document may be.
func readFile(path string) ([]byte, fs.FileMode, error) {
	data, info, err := regular.ReadFile(path, maxDocument)
	if errors.Is(err, regular.ErrTooLarge) {
		err = errTooLarge
	}
	if err != nil {
		return nil, 0, named(err)
	}
	return data, info.Mode(), nil
}

// named makes ErrNoFile of the error that a file which the caller named is missing.
func named(err error) error {
	var path *fs.PathError
	if errors.Is(err, fs.ErrNotExist) && errors.As(err, &path) {
		return fmt.Errorf("%s %s: %w", path.Op, quote(path.Path), ErrNoFile)
	}
	return err
}

// KubeletPaths lists the files that the kubelet searches, in its order: config.json
// in its root directory, the working directory, $HOME/.docker and /.docker, then
// .dockercfg in the root directory, the working directory, $HOME and /. An empty
// root is the kubelet's default, /var/lib/kubelet. As the kubelet, it never reads
// DOCKER_AUTH_CONFIG.
func KubeletPaths(root string) []string {
	if root == "" {
		root = "/var/lib/kubelet"
	}
	home, err := os.UserHomeDir()
	list := func(name, sub string) []string {
		paths := []string{filepath.Join(root, name), name}
		if err == nil {
			paths = append(paths, filepath.Join(home, sub, name))
		}
		return append(paths, filepath.Join("/", sub, name))
	}
	return append(list("config.json", ".docker"), list(".dockercfg", "")...)
}

// DockerPaths lists the one file that docker reads: $DOCKER_CONFIG/config.json,
// or ~/.docker/config.json where that variable is not set. [ReadDocker] also reads
// the variable DOCKER_AUTH_CONFIG, as docker does.
func DockerPaths() []string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return []string{filepath.Join(dir, "config.json")}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	return []string{filepath.Join(home, ".docker", "config.json")}
}

// ContainersPaths lists the files that Podman, Buildah, Skopeo and CRI-O search:
// $REGISTRY_AUTH_FILE alone if that is set; otherwise containers/auth.json in
// $XDG_RUNTIME_DIR (or /run/containers/<uid>/auth.json) and in $XDG_CONFIG_HOME
// (or ~/.config), docker's file, and ~/.dockercfg.
//
// Those tools go on to the next file when one has no entry for an image. To do
// the same, read each path on its own and [Join] the results.
func ContainersPaths() []string {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return []string{path}
	}
	var paths []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if uid := os.Getuid(); uid >= 0 {
		paths = append(paths, filepath.Join("/run/containers", strconv.Itoa(uid), "auth.json"))
	}
	home, err := os.UserHomeDir()
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if err == nil {
		paths = append(paths, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	paths = append(paths, DockerPaths()...)
	if err == nil {
		paths = append(paths, filepath.Join(home, ".dockercfg"))
	}
	return paths
}
