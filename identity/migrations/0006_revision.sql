-- Every change counts up one of two numbers: 1 where it may alter what a token means, 2 where it cannot.
INSERT INTO identity_epoch (id, epoch) VALUES (2, 1);
