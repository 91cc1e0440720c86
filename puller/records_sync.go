//go:build !windows

package puller

import "errors"

// syncDir makes a rename in dir durable.
func (r *FileRecords) syncDir(dir string) error {
	d, err := r.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
