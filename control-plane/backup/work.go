package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// work is a directory for the files of one task for one cluster. It is locked, so what a
// killed process left in it can be thrown away.
type work struct {
	dir  string
	lock *os.File
}

func openWork(parent, cluster string) (*work, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make working directory: %w", err)
	}
	w := &work{dir: filepath.Join(parent, cluster)}
	var err error
	if w.lock, err = os.OpenFile(w.dir+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("make working directory: %w", err)
	}
	err = syscall.Flock(int(w.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("the same is under way already")
	}
	if err == nil {
		err = os.RemoveAll(w.dir)
	}
	if err == nil {
		err = os.Mkdir(w.dir, 0o700)
	}
	if err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	return w, nil
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

// close removes the files. They may be gone: a restored cluster takes them along.
func (w *work) close() {
	_ = os.RemoveAll(w.dir)
	_ = w.lock.Close()
}
