package operator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// confirmation is whether a person has to agree.
type confirmation struct{ yes bool }

func (c *confirmation) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask; where there is no terminal, this is needed")
}

func isTerminal(in io.Reader) bool {
	file, isFile := in.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}

// ask returns nil when the person agrees, and errNotConfirmed otherwise.
func (c *confirmation) ask(ctx context.Context, in io.Reader, to io.Writer, question string) error {
	if c.yes {
		return nil
	}
	fmt.Fprintf(to, "%s [y/N] ", question)
	line := make(chan string, 1) // the reader of a terminal cannot be ended with the context
	go func() {
		text, _ := bufio.NewReader(in).ReadString('\n')
		line <- text
	}()
	select {
	case text := <-line:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "y", "yes":
			return nil
		}
		return errNotConfirmed
	case <-ctx.Done():
		fmt.Fprintln(to)
		return errNotConfirmed
	}
}
