package fakeinstance

import (
	"math/rand/v2"
	"sync"
)

// Fate is what goes wrong with a machine. The zero value is nothing.
type Fate string

// The fates of a machine.
const (
	FailsToStart Fate = "fails-to-start"
	Silent       Fate = "silent"   // it never signals, nor ends its launch hook
	Fails        Fate = "fails"    // it signals FAILURE and abandons its launch
	NeverDrains  Fate = "no-drain" // it never ends its termination hook
)

// Chances are how likely each fate is, from 0 to 1, by a seed. Draws are in the order in
// which machines start, which machines that start at the same time may swap.
type Chances struct {
	Seed                                     uint64
	FailsToStart, Silent, Fails, NeverDrains float64

	mu   sync.Mutex
	dice *rand.Rand
}

func (c *Chances) draw() Fate {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dice == nil {
		c.dice = rand.New(rand.NewPCG(c.Seed, 0))
	}
	thrown := c.dice.Float64()
	for _, one := range []struct {
		fate   Fate
		chance float64
	}{{FailsToStart, c.FailsToStart}, {Silent, c.Silent}, {Fails, c.Fails}, {NeverDrains, c.NeverDrains}} {
		if thrown < one.chance {
			return one.fate
		}
		thrown -= one.chance
	}
	return ""
}
