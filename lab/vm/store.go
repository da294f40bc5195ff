package vm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DriveBytes is how large the lab's instance-store drives are, whatever the type. They are
// sparse files.
const DriveBytes = 8 << 30

func driveFile(number int) string { return fmt.Sprintf("store%d.raw", number) }

// driveSerial is the serial number of an instance-store drive: EC2's begin with AWS.
func (s Spec) driveSerial(number int) string {
	return fmt.Sprintf("AWS%X", sha256.Sum256(fmt.Appendf(nil, "%s/%d", s.Instance, number)))[:20]
}

// storeDrives are the instance store's drives, which come after the root volume's.
func (s Spec) storeDrives() []string {
	var arguments []string
	for number := range s.Drives {
		id := fmt.Sprintf("store%d", number)
		arguments = append(arguments,
			"-drive", "if=none,id="+id+",format=raw,cache=unsafe,discard=unmap,file="+driveFile(number),
			"-device", "nvme,drive="+id+",serial="+s.driveSerial(number))
	}
	return arguments
}

// makeDrives makes the drives that are not there, blank.
func (s Spec) makeDrives() error {
	for number := range s.Drives {
		file, err := os.OpenFile(filepath.Join(s.Dir, driveFile(number)), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = file.Truncate(DriveBytes)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveDrives removes the instance store of the machine in dir, as EC2 does when an instance
// is stopped.
func RemoveDrives(dir string) error {
	for number := 0; ; number++ {
		switch err := os.Remove(filepath.Join(dir, driveFile(number))); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("remove the instance store: %w", err)
		}
	}
}
