// The Control UI that speaks protocol 3.

import { testControlUi } from "./control-ui.mjs";
import { RELEASES } from "./openclaw.mjs";

testControlUi(RELEASES.find(({ protocol }) => protocol === 3));
