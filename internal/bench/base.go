package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// baseDir returns the directory of the base's files.
func (b *bench) baseDir() string { return filepath.Join(b.dir, "base") }

// buildBase builds examples/pull at the commit of the flag -base. It takes the files from the
// history of this clone.
func (b *bench) buildBase(ctx context.Context) error {
	if b.base == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "git", "-C", b.root, "cat-file", "-e", b.base+"^{commit}").CombinedOutput(); err != nil {
		return fmt.Errorf("this clone has no such commit (git fetch --unshallow fetches the whole history): %w: %s", err, lastLine(string(out)))
	}
	cmd := exec.CommandContext(ctx, "git", "-C", b.root, "archive", "--format=tar", b.base)
	files, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := errors.Join(unpack(files, b.baseDir()), cmd.Wait()); err != nil {
		return fmt.Errorf("git archive: %w", err)
	}
	_, err = b.goCommand(ctx, "-C", b.baseDir(), "build", "-o", b.bin("base"), "./examples/pull")
	return err
}

// unpack writes the directories and regular files of an archive.
func unpack(r io.Reader, dir string) error {
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(r)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the padding that git writes after the archive
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(head.Name, "/")
		switch head.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = writeFile(root, name, archive)
		}
		if err != nil {
			return err
		}
	}
}

func openRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
