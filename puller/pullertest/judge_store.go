package pullertest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// store judges the store on disk and what lies beside it.
func (j *judge) store() {
	entries, err := os.ReadDir(j.out.Box)
	if err != nil {
		j.fail("%w", err)
		return
	}
	for _, e := range entries {
		if e.Name() != "store" && e.Name() != "elsewhere" {
			j.fail("%q was written outside the store", e.Name())
		}
	}
	if planted, err := os.ReadDir(filepath.Join(j.out.Box, "elsewhere")); err == nil && len(planted) > 0 {
		j.fail("%q was written through a planted link", planted[0].Name())
	}
	held, err := j.held(filepath.Join(j.out.Box, "store"))
	if err != nil {
		j.fail("%w", err)
		return
	}
	for _, id := range j.expect.Complete {
		if !held[j.stage.Fill("{{hex:"+id+"}}")] {
			j.fail("the store lacks %q", id)
		}
	}
	for _, id := range j.expect.Absent {
		if held[j.stage.Fill("{{hex:"+id+"}}")] {
			j.fail("the store holds %q", id)
		}
	}
}

// held hashes all files of the store and compares blobs with their names.
func (j *judge) held(store string) (map[string]bool, error) {
	held := map[string]bool{}
	err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreAbsent(err)
		}
		sum, err := sumFile(path, sha256.New())
		if err != nil {
			return ignoreAbsent(err)
		}
		held[sum] = true
		switch filepath.Base(filepath.Dir(path)) {
		case "sha512":
			if sum, err = sumFile(path, sha512.New()); err != nil {
				return ignoreAbsent(err)
			}
			fallthrough
		case "sha256":
			if isHex(d.Name(), len(sum)) && d.Name() != sum {
				j.fail("the blob %.12s has other content", d.Name())
			}
		}
		return nil
	})
	return held, err
}

// ignoreAbsent lets files come and go while the store is read.
func ignoreAbsent(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func sumFile(path string, h hash.Hash) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func isHex(name string, length int) bool {
	return len(name) == length && strings.Trim(name, "0123456789abcdef") == ""
}

// prepare does what a run wants done to the store before it.
func (s *Stage) prepare(step, box string) error {
	op, id, _ := strings.Cut(step, ":")
	store, elsewhere := filepath.Join(box, "store"), filepath.Join(box, "elsewhere")
	name := s.Fill("{{hex:" + id + "}}")
	switch op {
	case "flip", "truncate":
		return damage(store, name, op == "flip")
	case "symlink-blobs":
		return plant(elsewhere, filepath.Join(store, "blobs"), elsewhere)
	case "symlink-blob":
		return plant(filepath.Join(elsewhere, "victim"), filepath.Join(store, "blobs", "sha256", name), elsewhere)
	}
	return fmt.Errorf("unknown step %q", step)
}

// plant makes a symbolic link and the directory elsewhere.
func plant(target, link, elsewhere string) error {
	for _, dir := range []string{elsewhere, filepath.Dir(link)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(target, link)
}

// damage flips a bit of a blob in the store, or cuts it in half.
func damage(store, name string, flip bool) error {
	path := ""
	err := filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() == name {
			path = p
		}
		return err
	})
	if err != nil {
		return err
	}
	if path == "" {
		return fmt.Errorf("no file %.12s in the store", name)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if flip {
		data[len(data)/2] ^= 0x10
	} else {
		data = data[:len(data)/2]
	}
	return os.WriteFile(path, data, 0o644)
}
