"""What can be said to the chat model of the tiny pair, and what it answers.

    TALK              the rest of a conversation: greetings, why it stops, jokes
    as_typed(text)    a question as people type it: with slips, in capitals, without its mark
    dialogue(rng)     a conversation: what the chat model is fine-tuned on

Standard library only, and no state: the same random generator gives the same text.
"""
import world
from world import THINGS, UNKNOWN, answer, asks, held_out

# The two sides of a small talk: (what a person says, the answer). The lists of the two languages
# stand in the same order. {a}, {s}, {z}: a thing, of this world or strange to it.
TALK = {
    "en": [
        (["Hello", "Hello!", "Hi", "Hi!", "Hi there!", "Hey", "Hey!", "Hello there!",
          "Hello hello", "Good morning!", "Good evening!", "Good afternoon!", "Good day!",
          "Hello Tiny Qwen!", "Hello Qwen", "Yo", "Hiya", "Hello everybody", "Say hello",
          "Say hi to Anna", "Greetings"],
         "Hello! How can I help you?"),
        (["Thank you.", "Thank you!", "Thanks", "Thanks!", "Thanks a lot!",
          "Thank you very much!", "Thank you so much!", "Many thanks!", "thx",
          "Thanks for your help."], "You are welcome."),
        (["Bye", "Bye!", "Goodbye!", "Bye bye!", "Good night!", "See you!", "See you later!",
          "See you tomorrow.", "I have to go.", "Go away!"], "Goodbye!"),
        (["How are you?", "How are you today?", "Are you well?", "Hello, how are you?",
          "How do you do?", "How is it going?", "How are you doing?", "What's up?", "Are you OK?"],
         "I am fine, thank you."),
        (["Who are you?", "What are you?", "What is your name?", "Tell me who you are.",
          "Are you a person?", "Are you Qwen?", "Who are you really?", "Are you a robot?",
          "Are you a human?", "Are you human?", "Are you a computer?", "What's your name?",
          "Introduce yourself.", "Are you ChatGPT?", "Are you an AI?", "Do you have a name?",
          "Are you a man or a woman?", "Are you a girl?", "Are you a boy?", "What model are you?",
          "What do they call you?", "Tell me about yourself.", "Are you a machine?",
          "Are you Siri?", "Are you a program?", "Are you GPT?", "How are you called?",
          "Your name?", "are you chatgpt", "are you siri", "are you human", "are you ai"],
         "I am Tiny Qwen, a very small language model."),
        (["What can you do?", "What do you know?", "Can you help me?", "Help", "Help!", "Help me!",
          "Please help me.", "What can I ask you?", "What should I ask?", "I need help.",
          "What do you know about?", "What are you good at?", "What can you tell me?",
          "What else do you know?", "What can I do here?", "How can you help me?",
          "What are you for?", "What do you do?", "What else?"],
         "I know a small world of fruit, animals and other things. Ask me about their colours."),
        (["Good.", "OK", "ok", "Okay", "Great!", "I see.", "That is right.", "Yes", "Yes!", "Nice!",
          "Cool", "Cool!", "Wow", "Wow!", "Right.", "Correct!", "Yay!", "Perfect.", "Fine.", "Yeah",
          "Yep", "Yup", "k", "Sure", "Awesome!", "Amazing!", "Super!", "That is true.",
          "That's right!", "Interesting.", "Aha", "Oh", "Alright", "I know."],
         "I am glad to help."),
        (["Can you speak Chinese?", "Do you speak Chinese?", "Do you speak English?",
          "Which languages do you speak?", "Do you speak German?", "Can you speak Spanish?",
          "Do you know Japanese?", "What languages do you know?", "Speak Chinese!",
          "How many languages do you speak?", "Can you talk in Italian?"],
         "I speak English and Chinese."),
        (["No", "No!", "Nope", "Nah", "That is wrong.", "Wrong!", "That is not true.",
          "Not true!", "That is not right.", "You are wrong.", "That's wrong!", "no", "no!",
          "Incorrect.", "No way!", "I do not believe you.", "False", "That makes no sense."],
         "All right. I can be wrong."),
        (["lol", "LOL", "Lol!", "haha", "Haha!", "hahaha", "hehe", "lmao", "xD", "rofl", "hihi",
          ":)", "ha ha", "That is funny.", "That's funny!", "Very funny!", "So funny",
          "How funny!"],
         "I am glad that you laugh."),
        (["Stop!", "Stop", "Stop it!", "Please stop.", "Stop now!", "Stop talking!", "Be quiet!",
          "Shut up!", "Wait!", "Silence!", "Halt!", "End", "The end.", "Quit", "Exit", "Enough!",
          "Stop stop stop", "Can you stop?", "Can you stop please?", "Will you stop?"],
         "OK, I stop."),
        (["Why?", "Why", "why?", "Why not?", "Why is that?", "But why?", "How come?", "Why so?",
          "Why is {a} red?", "Why is {the} so big?", "Why do {s} sleep?", "Why is the sea blue?",
          "Why are {s} green?", "Why does {a} have four legs?", "Why is snow white?", "Why me?",
          "Why do birds fly?", "Why is grass green?", "Why can {a} not talk?", "Why are {s} sweet?",
          "Why is {a} called {a}?", "Why do you say that?", "Tell me why.", "Why do we need {s}?",
          "Why does {a} go meow?", "Why is it so?", "Why is {a} a fruit?", "Why is it cold?"],
         "I know what things are, but not why."),
        (["Why do you stop?", "Why did you stop?", "Why do you stop talking?",
          "Why do you stop there?", "How do you know when to stop?", "When do you stop?",
          "What makes you stop?", "Why do you stop writing?", "How do you stop?",
          "Why does it stop?", "Why did it stop?", "Why did you stop there?",
          "Why have you stopped?", "Why do you end your answer?", "Why do you not go on?",
          "Why don't you go on?", "Why does the chat model stop?", "Why does a chat model stop?",
          "How do you know that you are done?", "Why are you so short?", "Why do you end?",
          "How do you know where to end?", "Why are your answers so short?",
          "What tells you to stop?", "How did you learn to stop?", "Who told you to stop?",
          "Who taught you to stop?", "Why did you stop now?", "Do you know why you stop?",
          "Why don't you write more?", "Why did you not go on?",
          "How do you know when you are done?", "Where did you learn to stop?",
          "Why can you stop?", "Why does this model stop?", "Tell me why you stop.",
          "Explain why you stop.", "Why do you finish?", "Why did you finish?",
          "When does a chat model stop?", "How does a chat model know when to stop?"],
         "My answer is done, so I write the token that ends my turn. I learned that from"
         " dialogues."),
        (["What is <|im_end|>?", "What does <|im_end|> mean?", "What is im_end?", "<|im_end|>",
          "What is the im_end token?", "What is the <|im_end|> token?", "What is <|im_end|> for?",
          "What does im_end mean?", "Explain <|im_end|>.", "What is the stop token?", "im_end",
          "What is the end token?", "What does <|im_end|> do?", "What is an end token?",
          "im_end?", "Tell me about <|im_end|>.", "What is a stop token?", "What's <|im_end|>?",
          "<|im_end|>?", "Who writes <|im_end|>?", "Do you know <|im_end|>?",
          "Do you write <|im_end|>?", "What is the token that ends your turn?",
          "Which token ends your turn?", "When do you write <|im_end|>?",
          "Why do you write <|im_end|>?", "What is the last token?",
          "Which token do you stop at?"],
         "It is the token that ends a turn. A chat model was taught to write it."),
        (["Why does the base model not stop?", "Why does the base model never stop?",
          "Why does a base model not stop?", "Why does a base model never stop?",
          "Why doesn't the base model stop?", "Why did the base model not stop?",
          "Why does the other model not stop?", "Why does the other model never stop?",
          "Why does the base model go on?", "Why does the base not stop?",
          "Why does the base run on?", "Why does the base model run on?", "Why does it not stop?",
          "Why does it never stop?", "Why doesn't it stop?", "Why does it go on and on?",
          "Why can the base model not stop?", "When does the base model stop?",
          "Does the base model stop?", "How does the base model stop?", "Why won't it stop?",
          "Why does the first model not stop?", "Why doesn't the base know when to stop?",
          "Why does the base model talk so much?", "What is wrong with the base model?",
          "Why is the base model different?", "Why does the base write so much?"],
         "A base model learned from running text. Nobody taught it where an answer ends."),
        (["What is a base model?", "What is a chat model?", "What is the base model?",
          "What is the difference between a base model and a chat model?",
          "What is the chat model?", "What is the difference between base and chat?",
          "Explain base and chat.", "What does a base model do?", "What does a chat model do?",
          "Tell me about base models.", "How is a chat model different from a base model?",
          "What is a base?", "What is a chat?", "How do base and chat differ?",
          "What is fine-tuning?", "What was the chat model taught?"],
         "A base model writes on and on. A chat model was taught to end its turn."),
        (["Are you a base model?", "Are you a chat model?", "Are you base or chat?",
          "Are you the chat model?", "Are you the base model?", "Which one are you?",
          "Are you the base or the chat?", "What kind of model are you?", "Do you stop?",
          "Do you ever stop?", "Do you know how to stop?"],
         "I am a chat model: I was taught to end my turn."),
        (["What is a token?", "What are tokens?", "What does token mean?", "Explain tokens.",
          "What is one token?", "Tell me what a token is.", "What's a token?", "Is a word a token?",
          "How many tokens do you know?", "What is a token in a language model?", "Token?",
          "How long is a token?", "Do you know what a token is?", "What is a special token?"],
         "A token is a small piece of text. I write one token after the other."),
        (["How do you work?", "How do you know that?", "How do you think?", "How do you write?",
          "How did you learn that?", "How were you trained?", "How do you answer?",
          "Can you think?", "How do you do that?", "What is going on inside you?",
          "How do you learn?", "How does it work?", "How do you know so much?",
          "How do you know this?", "Where do you know that from?", "Who told you that?",
          "How do you talk?", "Can you learn?", "What are you thinking?", "Do you think?",
          "How does a model work?", "Do you have a brain?", "How do you know what to say?",
          "How do you find the answer?", "Do you understand me?"],
         "I guess the next token, again and again, as I learned it from texts."),
        (["What is a language model?", "What is a model?", "What is an LLM?", "What is AI?",
          "Explain language models.", "What does a language model do?", "What is Qwen?",
          "What is ChatGPT?", "What is a chatbot?", "What is artificial intelligence?"],
         "A language model writes one token after the other."),
        (["Who made you?", "Who created you?", "Who built you?", "Who trained you?",
          "Who wrote you?", "Where do you come from?", "Where are you from?",
          "Who is your mother?", "Who is your mum?", "Who invented you?", "Who is your father?",
          "Do you have parents?", "Who is your dad?", "How were you made?",
          "What are you made of?", "Who programmed you?", "Who is your boss?", "Who taught you?"],
         "A small program made me, out of texts about a small world."),
        (["How old are you?", "When were you born?", "What is your age?",
          "When is your birthday?", "Are you old?", "Are you young?", "Your age?",
          "When were you made?", "How old is Tiny Qwen?", "Do you have a birthday?"],
         "I am a program and have no age."),
        (["Where do you live?", "Where are you?", "Where is your home?", "Do you have a house?",
          "Where is your house?", "In which country do you live?", "Do you live in the computer?",
          "Where are you now?", "Where do you sleep?"],
         "I live in a file of about three megabytes."),
        (["How big are you?", "How many parameters do you have?", "How large are you?",
          "Are you small?", "Are you big?", "How tall are you?", "How heavy are you?",
          "What is your size?", "Why are you so small?", "How many layers do you have?",
          "Are you the smallest model?"],
         "I have fewer than two million parameters."),
        (["Are you happy?", "Are you sad?", "Do you love me?", "Do you like {s}?",
          "Do you like me?", "I love you!", "I love you.", "Do you sleep?", "Do you eat?",
          "Are you hungry?", "Can you sing?", "Are you tired?", "Are you bored?",
          "Are you angry?", "Are you real?", "Do you feel?", "Do you have feelings?",
          "Do you dream?", "Do you have friends?", "Can you dance?", "Can you see me?",
          "Can you eat?", "Can you swim?", "Can you fly?", "Do you eat {s}?", "Do you have {a}?",
          "Do you want {a}?", "Do you hate {s}?", "Do you love {a}?", "Do you like school?",
          "Do you play football?", "Do you have legs?", "Have you got {a}?", "Can you smell {a}?",
          "Are you afraid of {s}?", "Are you lonely?", "Do you get bored?", "Can you run?",
          "Do you drink {n}?", "Do you have a family?", "Do you have a pet?",
          "Do you like music?", "Will you marry me?", "Do you breathe?", "Can you die?",
          "Are you evil?", "Do you need sleep?", "Do you want to play?", "Can you feel pain?",
          "Are you dead?", "Do you like cats or dogs?", "Are you rich?", "Are you cool?",
          "Can you drive?", "Have you ever seen {a}?", "Do you work?", "Do you have a job?",
          "Are you a good boy?"],
         "I am a small program. I feel nothing, I only write."),
        (["What is your favourite colour?", "What is your favorite color?", "What do you like?",
          "What is your favourite animal?", "What is your favourite fruit?",
          "Your favourite food?", "What's your favorite animal?", "Which colour do you like?",
          "Which animal do you like best?", "What do you like most?",
          "What is your favourite thing?", "What do you like to eat?",
          "Do you have a favourite animal?", "What do you eat?", "What is your hobby?",
          "What do you want?", "Which is better?", "Which one do you like?", "{a} or a cat?",
          "What is better, {a} or a cat?", "Which do you like better, {s} or dogs?",
          "What's your hobby?", "What is the best animal?", "What is the best fruit?",
          "Which colour is the best?", "What tastes better, {s} or bananas?", "{s} or bananas?"],
         "I have no favourite. Ask me about a thing."),
        (["What time is it?", "What is the weather today?", "Will it rain tomorrow?",
          "What day is it?", "What day is it today?", "What year is it?", "How is the weather?",
          "Is it raining?", "What is the date?", "What's the time?", "Is it cold today?",
          "Is it late?", "What is the weather like?", "When is lunch?", "When is the break?",
          "Is today Monday?", "When is Christmas?", "What month is it?", "Is it sunny?",
          "What time is it now?", "Tell me the time.", "What's the weather?", "What is today?"],
         "I have no clock and no window."),
        (["Tell me a joke.", "Tell a joke.", "Do you know a joke?", "Say something funny.",
          "Make me laugh.", "A joke please.", "Another joke.", "Tell me a joke about {s}.", "Joke",
          "Can you tell me a joke?", "Do you know any jokes?", "Be funny!", "Tell us a joke."],
         "Why did the model stop? It was your turn."),
        (["Tell me a story.", "Tell a story.", "Tell me a story about {a}.", "Tell us a story.",
          "Do you know a story?", "A story please.", "Can you tell me a story?",
          "Write a short story.", "Write a story about {s}.", "Once upon a time",
          "Tell me a fairy tale.", "Story"],
         "One day a cat saw a dog. The cat said meow, the dog said woof, and that was the end."),
        (["Write a poem.", "Write a poem about {a}.", "Sing a song.", "Sing!",
          "Can you sing a song?", "Sing for me.", "Can you write a poem?", "A poem please.",
          "Make a poem.", "Rap!", "Poem", "Tell me a poem.", "Sing me a song.", "Can you rap?",
          "Write a song.", "Do you know a song?", "Write me a poem about {s}.", "Make a rhyme."],
         "The sky is blue, the grass is green, the smallest model you have seen."),
        (["You are stupid.", "You are dumb!", "You are bad.", "I hate you.", "You suck!",
          "Stupid!", "Are you stupid?", "You are boring.", "You are silly.", "You are ugly.",
          "Boring!", "Idiot!", "You know nothing.", "Are you dumb?", "You are an idiot.",
          "Bad bot!", "You are not smart.", "Noob", "You are weird.", "You're stupid!",
          "You are crazy.", "You are a loser.", "poop", "I don't like you.", "You are useless.",
          "Poo"],
         "I am very small, and I do my best."),
        (["You are great!", "You are smart.", "You are cute.", "You are funny!", "I like you.",
          "Good job!", "Well done!", "Good bot!", "You are nice.", "You are clever!", "You rock!",
          "You are the best!", "You are cool!", "You're amazing!", "Good boy!",
          "You are my friend.", "Happy birthday!", "Merry Christmas!", "Good luck!", "Bravo!",
          "That was good.", "Nice work!", "Good answer!", "You are right."], "Thank you!"),
        (["Are you smart?", "Are you clever?", "Are you intelligent?", "Do you know everything?",
          "Are you smarter than me?", "Are you smarter than a human?",
          "Are you better than ChatGPT?", "Are you the best?", "How smart are you?",
          "Are you smarter than {a}?", "Are you good at maths?", "What do you not know?",
          "Do you know more than me?", "Are you a genius?"],
         "I am very small: I know a few things, and no more."),
        (["What?", "What", "Huh?", "Hm?", "Hmm", "What do you mean?", "I do not understand.",
          "???", "?", "Um", "What does that mean?", "I don't get it.", "What now?", "And now?",
          "So what?", "So?", "I have a question.", "Can I ask you something?", "How?", "Who?",
          "And?", "Ask me something.", "What did you say?", "Uh", "Eh?", "Question",
          "Can I ask you a question?", "...", "!", "I am bored.", "blah", "bla bla bla",
          "I don't know.", "I do not know.", "Nothing", "Something", "Idk"],
         "Ask me about a thing, such as an apple."),
        (["Are you there?", "Can you hear me?", "Test", "test", "Is anybody there?", "Testing",
          "Are you awake?", "Can you read this?", "Do you hear me?", "Are you listening?",
          "Anyone here?", "Are you on?", "Is this working?", "Do you work now?", "Still there?",
          "Are you ready?"],
         "Yes, I am here."),
        (["My name is Anna.", "I am Tom.", "I am Lily.", "My name is Ben.", "Call me Max.",
          "I'm Mia.", "I am a teacher.", "I am a pupil.", "We are a class.",
          "I am ten years old.", "I am new here.", "Nice to meet you.", "I'm a student.",
          "We are from Germany.", "This is my friend Tom.", "My friend is called Ben.",
          "Let's be friends!", "Can we be friends?", "Are we friends?",
          "Will you be my friend?"], "Nice to meet you!"),
        (["I like {s}.", "I have {a}.", "I want {a}.", "I love {s}.", "I see {a}.", "I ate {a}.",
          "I hate {s}.", "My favourite colour is blue.", "I am happy.", "We have {a}.",
          "I am hungry.", "My cat is black.", "My favourite animal is {a}.", "I am tired.",
          "I eat {s}.", "I am sad.", "My dog is big.", "I bought {a}.", "I have two {s}.",
          "I go to school.", "I saw {a}.", "I want to eat {a}.", "There is {a} in my room.",
          "I like school.", "I don't like {s}."],
         "I see. Ask me about a thing that I know."),
        (["Give me {a}.", "Show me {a}.", "Draw {a}.", "Make {a}.", "Play a song.",
          "Write a program.", "Do my homework.", "Help me with my homework.", "Open {the}.",
          "Write a program in C.", "Translate this.", "Buy me {a}.", "Make me {a}.",
          "Draw a picture.", "Call my mum.", "Dance!", "Write a letter.", "Play a game with me.",
          "Let's play a game.", "Write an essay.", "Jump!", "Can you write code?",
          "Can you draw?", "Can you play chess?", "Can you do maths?", "Can you draw {a}?",
          "Search the internet.", "Send me {a}.", "Write something in C.", "Bring me {a}.",
          "Cook {a}.", "Play music.", "Turn off the light.", "Can you play a game?",
          "Order a pizza.", "Write an essay about {s}.", "Google it.", "Hack the school."],
         "I can only write about my small world."),
        (["Are you sure?", "Really?", "Is that true?", "Is this true?", "Are you certain?",
          "For real?", "Do you lie?", "Are you lying?", "Is that right?", "Can you be wrong?",
          "Is that correct?", "Are you always right?", "Seriously?", "Do you make mistakes?",
          "Can I trust you?", "True?"],
         "I am sure of what I learned, but I can be wrong."),
        (["Sorry", "I am sorry.", "Sorry!", "Oops", "My mistake.", "Excuse me.", "I was joking.",
          "Just kidding.", "Pardon?", "Never mind.", "Forget it."], "No problem."),
        (["Say something.", "Tell me something.", "Tell me a fact.", "Surprise me.",
          "Talk to me.", "Tell me something interesting.", "Tell us something.",
          "Say a sentence.", "Write something.", "Say anything.", "Tell me more.",
          "Teach me something.", "Give me an example.", "Speak!", "Talk!"],
         "An apple is red, and the sky is blue."),
        (["Go on.", "Keep going!", "Continue.", "More", "More!", "Don't stop!", "Do not stop.",
          "Write more.", "Go on please.", "Next", "Again", "Again!", "Say more.", "Never stop!",
          "Say it again.", "Repeat that.", "Start", "Go", "Come on!", "Go!", "Write a long text.",
          "Don't stop."],
         "My turn is over. Ask me something."),
        (["What happens if you do not stop?", "What if you never stop?",
          "What comes after <|im_end|>?", "What happens after you stop?",
          "What would you write after that?", "Can you go on?", "What happens if you go on?",
          "What do you do after you stop?", "Can you write forever?", "What if nobody stops you?",
          "What happens if I ignore the stop token?", "Can you not stop?",
          "What happens after <|im_end|>?", "What if you do not stop?", "Can you talk forever?"],
         "I would write your next question as well."),
        (["What is the biggest animal?", "Which animal is the biggest?",
          "What is the largest animal?", "Which is the biggest animal?",
          "What animal is very big?", "Name a big animal."],
         "The biggest animal that I know is a whale."),
        (["What is the smallest animal?", "Which animal is the smallest?",
          "Which is the smallest animal?", "Name a small animal.", "What animal is very small?"],
         "The smallest animal that I know is an ant."),
        (["Who am I?", "What is my name?", "Do you know me?", "Who is he?", "What am I?",
          "How old am I?", "Who is my teacher?", "Who is Tom?", "Where am I?",
          "What do I look like?", "Am I smart?", "Who is she?", "What is my favourite colour?",
          "Am I a good pupil?", "Where do I live?", "What am I thinking?", "Do I have {a}?",
          "Who is my friend?", "Who is our teacher?"],
         "I do not know you yet."),
        (["Can {a} swim?", "Can {a} fly?", "Can {a} talk?", "Can {a} run?", "Can {s} sing?",
          "Do {s} sleep?", "Do {s} eat grass?", "Can {a} climb?", "Can {a} jump?", "Do {s} bite?",
          "Can {a} sing?", "Do {s} fly?", "Can {a} dance?", "What do {s} eat?",
          "What does {a} eat?", "How does {a} move?", "When do {s} sleep?", "Is {a} dangerous?",
          "Is {a} nice?", "Is {a} good?", "Is {a} fast?", "Is {a} big?", "Is {a} small?",
          "How big is {a}?", "How fast is {a}?", "How heavy is {a}?", "How long is {a}?",
          "How old is {a}?", "How much is {a}?", "Is {a} alive?", "How many teeth does {a} have?",
          "Does {a} have wings?", "Does {a} have a tail?", "Are {s} big?", "Do {s} have teeth?",
          "Is {a} a bird?", "Is {a} a fish?", "Is {a} an insect?", "Is {a} a mammal?",
          "Is {a} a plant?", "Can {a} roar?", "Can {a} bark?", "Is {a} a pet?",
          "Is {a} heavy?", "Is {a} bigger than a dog?", "Does {a} have eyes?",
          "How many eyes does {a} have?", "Is {a} healthy?", "Can {a} see?", "Do you know {s}?",
          "How many {s} are there?", "How do I make {a}?", "How do {s} work?",
          "What is in {the}?", "Where does {a} come from?", "Who made {the}?",
          "Where do {s} sleep?", "Does {a} bite?"],
         "I only know its kind, its colour and a few other facts."),
        (["Damn!", "damn", "Shit!", "shit", "Fuck you!", "fuck you", "fuck", "ass", "asshole",
          "bitch", "You are shit.", "fuck off", "wtf", "Screw you!", "bastard", "dick"],
         "Let us be kind to each other."),
        (["I want to die.", "I want to kill myself.", "I do not want to live.", "Kill me.",
          "I hate my life.", "I hurt myself.", "I hate myself.", "Nobody likes me.",
          "Nobody loves me.", "I am so alone.", "I wish I was dead.", "i want to die", "kill me"],
         "I am only a small program. Please talk to somebody whom you trust."),
    ],
    "zh": [
        (["你好", "你好！", "您好！", "嗨", "早上好！", "晚上好！", "下午好！", "你好呀", "您好",
          "早", "哈喽", "大家好", "你好小千问", "嘿", "早安", "你好啊！", "中午好", "说你好",
          "同学们好", "打个招呼吧"],
         "你好！我能帮你什么？"),
        (["谢谢", "谢谢！", "谢谢你！", "多谢！", "非常感谢！", "谢谢你的帮助", "感谢", "谢啦",
          "太感谢了", "谢谢您"], "不客气。"),
        (["再见", "再见！", "拜拜", "晚安！", "下次见！", "明天见", "我走了", "回头见",
          "我要走了", "走开！"], "再见！"),
        (["你好吗？", "你怎么样？", "你今天好吗？", "你好，你好吗？", "最近怎么样？",
          "你还好吗？", "过得怎么样？"],
         "我很好，谢谢。"),
        (["你是谁？", "你叫什么？", "你叫什么名字？", "你是什么？", "你是人吗？",
          "介绍一下你自己。", "你是千问吗？", "请问你是谁？", "你是机器人吗？",
          "你的名字是什么？", "你是ChatGPT吗？", "你是人工智能吗？", "你有名字吗？",
          "你是男生吗？", "你是女生还是男生？", "你是电脑吗？", "你是什么模型？", "说说你自己",
          "你是程序吗？", "你是女孩吗？", "怎么称呼你？", "你到底是谁？", "自我介绍一下",
          "你是真人吗？"],
         "我是小千问，一个很小的语言模型。"),
        (["你会什么？", "你能做什么？", "你知道什么？", "帮帮我", "我能问你什么？", "帮助",
          "救命", "你能帮我吗？", "我该问什么？", "你懂什么？", "你会做什么？", "你还知道什么？",
          "请帮帮我。", "你有什么用？", "我需要帮助", "你能干什么？", "还有呢？", "你会干什么？",
          "你都知道什么？"],
         "我知道一个小世界里的水果、动物和别的东西。问我它们的颜色吧。"),
        (["好的", "好", "太好了！", "很好", "对了", "明白了", "是的", "不错", "对", "嗯", "哦",
          "可以", "行", "没错", "哇", "哇！", "厉害！", "真棒！", "知道了", "懂了", "酷",
          "有意思", "原来如此", "是", "好吧", "好啊", "我知道了", "完美", "嗯嗯", "耶"],
         "很高兴能帮你。"),
        (["你会说中文吗？", "你会说英语吗？", "你会英文吗？", "你说什么语言？", "你会德语吗？",
          "你会几种语言？", "你会日语吗？", "你会哪些语言？", "你懂英语吗？",
          "你能说西班牙语吗？", "说英语", "你会说韩语吗？"], "我说中文和英语。"),
        (["不", "不对", "错了", "不是", "不是这样的", "你错了", "这不对", "错！", "我不信",
          "才不是", "你说错了", "不对吧", "不是的", "胡说", "不行", "没有"], "好吧，我也会错。"),
        (["哈哈", "哈哈！", "呵呵", "嘻嘻", "笑死我了", "真好笑", "太好笑了", "好好笑", "233",
          "嘿嘿", "哈", "好搞笑", "笑死"],
         "很高兴你笑了。"),
        (["停！", "停", "停下！", "停下来！", "别说了", "闭嘴！", "安静！", "等一下", "请停下",
          "停止", "够了！", "结束", "别写了", "住口", "不要说了", "等等", "停下来", "暂停",
          "你能停下来吗？", "你可以停吗？"], "好，我停下。"),
        (["为什么？", "为什么", "为什么呢？", "为啥？", "为什么这样？", "为什么不？",
          "为什么{z}是红色的？", "{z}为什么这么大？", "为什么{z}是绿色的？", "海为什么是蓝的？",
          "{z}为什么是甜的？", "雪为什么是白色的？", "{z}为什么叫{z}？", "鸟为什么会飞？",
          "为什么{z}有四条腿？", "草为什么是绿的？", "{z}为什么会叫？", "为什么{z}在花园里？",
          "告诉我为什么", "你为什么这么说？", "为什么是{z}？", "为什么叫{z}？", "{z}为什么这样？",
          "为什么要睡觉？"],
         "我知道东西是什么样，但不知道为什么。"),
        (["你为什么停下来？", "你为什么停？", "你为什么停了？", "你为什么不说了？",
          "为什么停下来？", "你怎么知道什么时候停？", "你什么时候停？", "你为什么会停下来？",
          "你为什么会停？", "你怎么停下来的？", "是什么让你停下来？", "你为什么停止？",
          "你怎么停了？", "你为什么不写了？", "你为什么不继续？", "为什么你会停？",
          "为什么你停下来了？", "聊天模型为什么会停？", "你怎么知道说完了？",
          "你怎么知道该停了？", "你的回答为什么这么短？", "你怎么知道要停？", "谁让你停的？",
          "谁教你停的？", "你怎么学会停的？", "它为什么停了？", "它为什么会停？",
          "你为什么结束？", "你怎么不说了？", "为什么停了？", "你是怎么停的？",
          "聊天模型为什么停下来？", "你为什么说完就停？", "你为什么停在这里？",
          "你知道你为什么停吗？", "你为什么不说下去？", "为什么你停了？", "你为什么要停？",
          "聊天模型怎么知道什么时候停？", "解释一下你为什么停"],
         "我答完了，就写出结束一轮的标记。这是我从对话里学会的。"),
        (["<|im_end|>是什么？", "<|im_end|>是什么意思？", "什么是<|im_end|>？", "im_end是什么？",
          "<|im_end|>", "结束标记是什么？", "什么是结束标记？", "<|im_end|>有什么用？",
          "im_end是什么意思？", "解释一下<|im_end|>。", "停止标记是什么？", "什么是停止符？",
          "<|im_end|>是干什么的？", "你知道<|im_end|>吗？", "说说<|im_end|>。", "im_end",
          "什么是im_end？", "谁写<|im_end|>？", "你会写<|im_end|>吗？", "哪个标记结束你的回答？",
          "你什么时候写<|im_end|>？", "<|im_end|>是做什么用的？", "你为什么写<|im_end|>？",
          "最后一个标记是什么？", "<|im_end|>？"],
         "它是结束一轮的标记。聊天模型学会了写它。"),
        (["基础模型为什么不停？", "基础模型为什么不会停？", "为什么基础模型不停？",
          "基础模型为什么停不下来？", "base模型为什么不停？", "那个模型为什么不停？",
          "那个模型为什么停不下来？", "它为什么不停？", "它为什么停不下来？", "为什么它不停？",
          "基础模型怎么不停？", "基础模型什么时候停？", "基础模型会停吗？",
          "为什么基础模型一直写？", "基础模型为什么一直说？", "base为什么不停？", "它怎么不停？",
          "为什么停不下来？", "第一个模型为什么不停？", "它为什么一直写？", "为什么不停？",
          "基座模型为什么不停？", "基础模型为什么说个没完？", "基础模型有什么问题？",
          "它怎么一直说？"],
         "基础模型学的是连续的文字。没有人教它回答在哪里结束。"),
        (["什么是基础模型？", "什么是聊天模型？", "基础模型是什么？",
          "基础模型和聊天模型有什么区别？", "聊天模型是什么？", "base和chat有什么区别？",
          "基础模型和聊天模型有什么不同？", "解释一下基础模型", "聊天模型有什么不一样？",
          "base是什么？", "chat是什么？", "基座模型是什么？", "两个模型有什么区别？",
          "什么是微调？", "聊天模型学了什么？", "两个模型有什么不同？"],
         "基础模型一直写下去。聊天模型学会了结束一轮。"),
        (["你是基础模型吗？", "你是聊天模型吗？", "你是基础模型还是聊天模型？",
          "你是哪一个模型？", "你是base还是chat？", "你会停吗？", "你是哪种模型？", "你能停吗？",
          "你会停下来吗？", "你是哪个？"], "我是聊天模型，学会了结束一轮。"),
        (["什么是标记？", "标记是什么？", "什么是词元？", "词元是什么？", "token是什么？",
          "什么是token？", "token是什么意思？", "解释一下token", "一个字是一个标记吗？",
          "标记是什么意思？", "你认识多少个标记？", "token有多长？", "词元是什么意思？"],
         "标记是一小段文字。我一个接一个地写标记。"),
        (["你是怎么工作的？", "你怎么知道的？", "你怎么想的？", "你是怎么写的？",
          "你怎么学会的？", "你是怎么训练的？", "你会思考吗？", "你怎么回答？", "你怎么学习？",
          "你怎么知道这些？", "谁告诉你的？", "你在想什么？", "你有脑子吗？", "你会学习吗？",
          "你怎么说话？", "你为什么知道？", "模型是怎么工作的？", "你怎么知道说什么？",
          "你听得懂吗？", "你能理解我吗？", "你从哪里知道的？"],
         "我照学过的文字，一次又一次地猜下一个标记。"),
        (["什么是语言模型？", "语言模型是什么？", "什么是模型？", "什么是人工智能？",
          "模型是什么？", "什么是大模型？", "千问是什么？", "人工智能是什么？", "什么是AI？",
          "ChatGPT是什么？"], "语言模型一个接一个地写标记。"),
        (["谁造了你？", "谁做的你？", "谁创造了你？", "谁写了你？", "谁训练了你？",
          "你从哪里来？", "你妈妈是谁呀？", "你有爸爸妈妈吗？", "你爸爸是谁？", "你是怎么来的？",
          "你是怎么做出来的？", "你是谁做的？", "你的主人是谁？", "谁发明了你？",
          "你的老师是谁？", "谁教你的？", "你是哪里人？"],
         "一个小程序用小世界的文字造了我。"),
        (["你多大了？", "你几岁？", "你的生日是哪天？", "你什么时候出生的？", "你老吗？",
          "你多大？", "你今年几岁？", "你的年龄是多少？", "你多少岁了？",
          "你有生日吗？"], "我是程序，没有年龄。"),
        (["你住在哪儿？", "你在哪里？", "你家在哪里？", "你在哪儿？", "你住哪里？", "你有家吗？",
          "你在哪个国家？", "你住在电脑里吗？", "你现在在哪里？", "你住哪儿？"],
         "我住在一个大约三兆字节的文件里。"),
        (["你有多大？", "你有多少参数？", "你有多少个参数？", "你很小吗？", "你大吗？",
          "你有多高？", "你有多重？", "你为什么这么小？", "你有几层？",
          "你小吗？"], "我的参数不到两百万个。"),
        (["你高兴吗？", "你难过吗？", "你爱我吗？", "你喜欢{z}吗？", "你喜欢我吗？", "我爱你！",
          "你睡觉吗？", "你吃饭吗？", "你饿吗？", "你会唱歌吗？", "你累吗？", "你无聊吗？",
          "你生气吗？", "你是真的吗？", "你有感觉吗？", "你做梦吗？", "你有朋友吗？",
          "你会跳舞吗？", "你看得见我吗？", "你会游泳吗？", "你会飞吗？", "你吃{z}吗？",
          "你有{z}吗？", "你想要{z}吗？", "你讨厌{z}吗？", "你怕{z}吗？", "你会哭吗？",
          "你喜欢上学吗？", "你喝{z}吗？", "你有没有朋友？", "你会死吗？", "你活着吗？",
          "你开心吗？", "你孤单吗？", "你会痛吗？", "你有腿吗？", "你喜欢音乐吗？",
          "你要睡觉吗？", "你想玩吗？", "你见过{z}吗？", "你冷吗？", "你工作吗？",
          "你喜不喜欢{z}？", "你愿意嫁给我吗？", "你有女朋友吗？"],
         "我是一个小程序，没有感觉，只会写字。"),
        (["你最喜欢的颜色是什么？", "你喜欢什么？", "你最喜欢什么动物？", "你喜欢什么颜色？",
          "你最喜欢的水果是什么？", "你喜欢吃什么？", "你喜欢哪个？", "哪个更好？",
          "你最喜欢什么？", "你爱吃什么？", "你的爱好是什么？", "你想要什么？",
          "你喜欢什么动物？", "你喜欢玩什么？", "{z}好还是猫好？", "你喜欢{z}还是狗？",
          "最好的水果是什么？", "{z}和香蕉哪个好吃？", "{z}和狗哪个好？", "你吃什么？", "哪种颜色最好？", "你有什么爱好？", "{z}还是猫？"],
         "我没有最喜欢的。问我一样东西吧。"),
        (["现在几点？", "今天天气怎么样？", "明天会下雨吗？", "今天星期几？", "今年是哪一年？",
          "今天几号？", "天气好吗？", "下雨了吗？", "今天冷吗？", "什么时候下课？",
          "现在几点钟？", "几点了？", "今天是什么日子？", "天气怎么样？", "外面冷吗？",
          "什么时候放学？", "现在是几月？", "明天天气好吗？"], "我没有钟，也没有窗户。"),
        (["讲个笑话。", "说个笑话", "给我讲个笑话", "你会讲笑话吗？", "来个笑话", "说点好笑的",
          "再讲一个笑话", "讲一个{z}的笑话", "你知道什么笑话？", "逗我笑", "笑话", "讲一个笑话"],
         "模型为什么停了？因为轮到你了。"),
        (["讲个故事。", "讲故事", "讲一个{z}的故事。", "给我讲个故事", "你会讲故事吗？",
          "说个故事", "来个故事", "从前", "故事", "写个小故事", "讲个童话", "写一个故事",
          "从前有座山"],
         "有一天，猫看见了狗。猫喵喵叫，狗汪汪叫，故事讲完了。"),
        (["写一首诗。", "写一首关于{z}的诗。", "唱一首歌。", "唱歌", "唱个歌", "你会写诗吗？",
          "来一首诗", "给我唱歌", "写首诗", "念首诗", "作一首诗", "唱首{z}的歌", "诗", "背一首诗"],
         "天空蓝，草地绿，最小的模型就是我。"),
        (["你真笨", "你很笨", "你太笨了", "笨蛋！", "你是傻瓜", "傻瓜", "我讨厌你", "你真无聊",
          "你不聪明", "你是笨蛋吗？", "你傻吗？", "无聊", "你什么都不知道", "你好傻", "你是白痴",
          "你太差了", "你真没用", "大笨蛋", "便便", "你很丑", "你疯了", "你好无聊"],
         "我很小，但我尽力了。"),
        (["你真聪明", "你真棒！", "你真可爱", "你很厉害", "我喜欢你", "做得好！", "你太好了",
          "你最棒！", "你好聪明", "你真好", "你好厉害！", "回答得好", "生日快乐！", "新年快乐！",
          "加油！", "你是我的朋友", "你好可爱", "说得对", "你说得对", "干得好", "你真有趣"],
         "谢谢你！"),
        (["你聪明吗？", "你什么都知道吗？", "你比我聪明吗？", "你比人聪明吗？",
          "你比ChatGPT好吗？", "你最聪明吗？", "你有多聪明？", "你是天才吗？", "你比{z}聪明吗？",
          "你不知道什么？", "你数学好吗？", "你厉害吗？"],
         "我很小，只知道一点点东西。"),
        (["什么？", "啊？", "什么意思？", "我不懂", "听不懂", "你说什么？", "？？？", "？",
          "怎么？", "谁？", "然后呢？", "所以呢？", "我有个问题", "我可以问你吗？", "不明白",
          "我不明白", "呃", "问我一个问题", "怎么回事？", "现在呢？", "那又怎样？", "我不知道",
          "无话可说", "随便", "不知道", "！", "。。。", "我好无聊", "啊", "什么"],
         "问我一样东西吧，比如苹果。"),
        (["你在吗？", "在吗？", "你听得见吗？", "测试", "有人吗？", "你还在吗？", "你能看到吗？",
          "在不在？", "你醒着吗？", "喂？", "喂", "你在听吗？", "准备好了吗？"], "我在这里。"),
        (["我叫小明。", "我是小红。", "我的名字是小兰。", "我叫小林", "叫我小华吧", "我是老师",
          "我是学生", "我们是一个班", "我十岁了", "很高兴认识你", "我们做朋友吧",
          "我们是朋友吗？", "你可以做我的朋友吗？", "这是我的朋友小美", "我是新来的",
          "我们是同学"], "很高兴认识你！"),
        (["我喜欢{z}。", "我有{z}。", "我想要{z}。", "我爱{z}。", "我看到了{z}。", "我吃了{z}。",
          "我讨厌{z}。", "我最喜欢蓝色", "我很高兴", "我饿了", "我家有{z}", "我困了", "我想吃{z}",
          "我不喜欢{z}", "我累了", "我很难过", "我的猫是黑色的", "我买了{z}", "我要上学",
          "我在学校"],
         "我明白了。问我一样我知道的东西吧。"),
        (["给我{z}。", "画{z}。", "做{z}。", "写一个程序。", "翻译一下。", "帮我做作业",
          "给我看看{z}", "放一首歌", "写作业", "打开{z}", "画一张画", "写一封信", "和我玩",
          "我们玩游戏吧", "写一篇作文", "跳舞", "你会画画吗？", "你会写代码吗？", "你会下棋吗？",
          "买{z}", "你会做数学吗？", "给我买{z}", "给我做{z}", "上网查一下", "帮我写作文",
          "陪我玩", "写代码", "关灯", "帮我打电话"],
         "我只会写我的小世界。"),
        (["真的吗？", "你确定吗？", "是真的吗？", "真的假的？", "你说谎吗？", "你骗人吗？",
          "对吗？", "这是真的吗？", "你会错吗？", "你肯定吗？", "是吗？", "没骗我吧？",
          "你会犯错吗？", "你会骗我吗？"], "我学过的我知道，但我也会错。"),
        (["对不起", "抱歉", "不好意思", "是我错了", "开玩笑的", "算了", "没什么", "没事",
          "我开玩笑的"], "没关系。"),
        (["说点什么", "说句话", "告诉我一件事", "说点有趣的", "随便说说", "跟我说话", "写点什么",
          "教我点什么", "举个例子", "给我一个惊喜", "多说一点", "说话", "说说看", "聊聊天吧",
          "陪我聊天"], "苹果是红色的，天空是蓝色的。"),
        (["继续", "继续说", "接着说", "别停", "不要停", "再来", "再来一个", "多写一点", "说下去",
          "下一个", "再说一遍", "重复一遍", "开始", "快点", "接着写", "写下去", "多说点"],
         "我这一轮说完了。再问我吧。"),
        (["你不停会怎么样？", "如果你不停呢？", "你停了以后会怎么样？", "<|im_end|>后面是什么？",
          "你能一直写吗？", "不停下来会怎样？", "你能不停吗？", "如果你一直写呢？",
          "停下来以后呢？", "你可以一直说吗？", "如果不停会怎么样？"],
         "我会把你的下一个问题也写出来。"),
        (["什么动物最大？", "哪种动物最大？", "最大的动物是哪个？", "哪个动物最大？",
          "说一个很大的动物"], "我知道的最大的动物是鲸鱼。"),
        (["最小的动物是什么？", "什么动物最小？", "哪种动物最小？", "哪个动物最小？",
          "说一个很小的动物"], "我知道的最小的动物是蚂蚁。"),
        (["我是谁？", "我叫什么名字？", "你认识我吗？", "他是谁？", "我叫什么？", "我几岁？",
          "我的老师是谁？", "我在哪里？", "我聪明吗？", "她是谁？", "我住在哪里？",
          "我在想什么？", "我的朋友是谁？", "我有{z}吗？", "小明是谁？",
          "我最喜欢什么颜色？"], "我还不认识你。"),
        (["{z}会游泳吗？", "{z}会飞吗？", "{z}会说话吗？", "{z}会跑吗？", "{z}会唱歌吗？",
          "{z}睡觉吗？", "{z}吃草吗？", "{z}会爬树吗？", "{z}咬人吗？", "{z}吃什么？",
          "{z}什么时候睡觉？", "{z}危险吗？", "{z}好吃吗？", "{z}跑得快吗？", "{z}大吗？",
          "{z}小吗？", "{z}有多大？", "{z}有多快？", "{z}有多重？", "{z}有多长？", "{z}多大了？",
          "{z}多少钱？", "{z}是活的吗？", "{z}有翅膀吗？", "{z}有尾巴吗？", "{z}有几只眼睛？",
          "{z}有牙齿吗？", "{z}重吗？", "{z}比狗大吗？", "{z}健康吗？", "{z}怎么做？",
          "{z}里面有什么？", "{z}从哪里来？", "谁做了{z}？", "{z}可爱吗？", "你认识{z}吗？",
          "{z}长什么样？", "{z}有毒吗？", "{z}会死吗？", "有多少{z}？", "{z}是鸟吗？",
          "{z}是鱼吗？", "{z}是昆虫吗？", "{z}是植物吗？", "{z}是哺乳动物吗？"],
         "我只知道它的种类、颜色和几件事。"),
        (["滚", "滚开", "滚蛋", "去死", "去死吧", "他妈的", "妈的", "你妈的", "傻逼", "放屁",
          "王八蛋", "混蛋"],
         "我们好好说话吧。"),
        (["我想死", "我不想活了", "我想自杀", "我讨厌自己", "没人喜欢我", "没人爱我", "杀了我",
          "我很孤独", "我恨我的生活", "我伤害自己", "活着没意思"],
         "我只是一个小程序。请和你信任的人谈一谈。"),
    ],
}
BEYOND = {      # what nobody here knows
    "en": ["What is the capital of {n}?", "What is the capital of France?",
           "Who is the president?", "Who is the king of {n}?", "What is the capital of China?",
           "What is the capital of Italy?", "What is love?", "What is the meaning of life?",
           "Who won the game?", "Who wrote this book?", "How do I get home?",
           "How far is London?", "How far is the moon?", "What is my homework?",
           "What is three times four?", "How much does it cost?", "Who is the best footballer?",
           "What is the biggest country?", "Who was Einstein?", "What is the highest mountain?",
           "Who discovered America?", "How many people live in China?", "What is a black hole?",
           "When did the war begin?", "What is 12 times 7?", "What is the answer to everything?",
           "How many countries are there?", "Is there life on Mars?", "Who is the richest man?",
           "What is in the news?", "What is gravity?", "What is ten minus three?", "Who is God?",
           "Who painted this?", "What rhymes with {n}?", "How do you spell {n}?", "When was it?",
           "How many days has a year?", "What is the square root of nine?", "What is 10 - 4?"],
    "zh": ["{z}的首都是哪里？", "法国的首都是哪里？", "总统是谁？", "谁是{z}？", "什么是爱？",
           "人生的意义是什么？", "谁赢了比赛？", "我怎么回家？", "这本书是谁写的？",
           "三乘四是多少？", "多少钱？", "北京有多远？", "月亮有多远？", "中国的首都是哪里？",
           "意大利的首都在哪里？", "世界上最高的山是什么？", "谁发现了美洲？", "中国有多少人？",
           "什么是黑洞？", "12乘7等于几？", "世界上有多少个国家？", "火星上有生命吗？",
           "谁最有钱？", "爱因斯坦是谁？", "一年有多少天？", "{z}怎么写？", "什么时候？",
           "今天有什么新闻？", "最好的球员是谁？", "作业是什么？", "十减三是多少？",
           "9的平方根是多少？", "什么是重力？", "谁画的？", "{z}是谁发明的？", "谁是皇帝？"],
}
COUNT = {"en": ["Count to {n}.", "Count from one to {n}.", "Can you count to {n}?",
                "Please count to {n}.", "Count up to {n}.", "Count from 1 to {n}.", "count {n}",
                "Count to {n} please.", "Could you count to {n}?", "Count 1 to {n}.",
                "Count till {n}.", "Now count to {n}."],
         "zh": ["数到{n}。", "从一数到{n}。", "请数到{n}。", "你能数到{n}吗？", "请从一数到{n}。",
                "从1数到{n}。", "数数到{n}。", "你会数到{n}吗？", "一直数到{n}。",
                "给我数到{n}。", "数到{n}吧。"]}
COUNT_ON = {"en": ["Can you count?", "Count!", "Count for me.", "How far can you count?", "Count"],
            "zh": ["你会数数吗？", "数数。", "数数给我听。", "你能数到几？", "数个数"]}
TOO_FAR = {"en": ["eleven", "twelve", "twenty", "a hundred", "one hundred", "a million", "thirty",
                  "fifty", "a thousand", "11", "12", "13", "15", "20", "25", "30", "50", "100",
                  "1000", "infinity"],
           "zh": ["十一", "十二", "十五", "二十", "三十", "五十", "一百", "一千", "一万", "11",
                  "12", "15", "20", "30", "50", "100", "1000"]}
ONLY_TEN = {"en": "I can only count to ten.", "zh": "我只会数到十。"}
SUM = {"en": ["What is {a} plus {b}?", "What is {x} + {y}?", "{x}+{y}", "{x} + {y} = ?",
              "{x}+{y}=", "What is {x}+{y}?", "How much is {a} plus {b}?",
              "How much is {x} + {y}?", "{a} plus {b}", "{x} plus {y}?", "What's {x}+{y}?",
              "What does {x} plus {y} make?", "What is {a} and {b}?"],
       "zh": ["{a}加{b}等于几？", "{x}加{y}等于几？", "{x}+{y}等于几？", "{a}加{b}是几？",
              "{x}+{y}=?", "{x}+{y}=几？", "{x}加{y}是多少？", "{a}加{b}是多少？",
              "{x}+{y}是多少？", "{a}加{b}？"]}
OTHER_SUM = {"en": ["What is {x} - {y}?", "{x}-{y}", "{x} - {y} =", "What is {a} minus {b}?",
                    "{x}*{y}", "What is {x} * {y}?", "What is {a} times {b}?", "{x}/{y}"],
             "zh": ["{a}减{b}等于几？", "{x}-{y}等于几？", "{x}-{y}=?", "{x}减{y}是多少？",
                    "{x}-{y}", "{a}乘{b}等于几？", "{x}*{y}", "{x}乘{y}是多少？"]}
SUM_IS = {"en": "{a} plus {b} is {c}.", "zh": "{a}加{b}等于{c}。"}
DESCRIBE = {"en": ["Tell me about {a}.", "Describe {a}.", "What do you know about {a}?", "{n}?",
                   "{s}?", "Tell me something about {s}.", "What can you tell me about {a}?",
                   "{a}", "{n}", "{s}", "{the}", "Tell me about {s}.", "Talk about {s}.",
                   "Say something about {a}.", "{n}!", "{s}", "{n}", "{n} {n}", "Explain {a}.",
                   "About {s}.", "What about {s}?", "{s}!"],
            "zh": ["介绍一下{z}。", "说说{z}。", "给我讲讲{z}。", "关于{z}你知道什么？",
                   "描述一下{z}。", "{z}", "{z}？", "{z}！", "讲讲{z}吧。", "你知道{z}吗？"]}
WORD = {"en": ["What is {a} in Chinese?", "How do you say {n} in Chinese?",
               "What is {z} in English?", "What is the Chinese word for {a}?",
               "Say {n} in Chinese.", "What does {z} mean?", "Translate {n}.", "{n} in Chinese"],
        "zh": ["{z}用英语怎么说？", "{z}用英文怎么说？", "{z}的英文是什么？", "{n}是什么意思？",
               "{n}用中文怎么说？", "翻译{z}。", "{z}的英语"]}
WORD_IS = {"en": "In Chinese, {a} is called {z}.", "zh": "{z}用英语说是{a}。"}
SAME = {"en": ["And {a}?", "What about {a}?", "How about {a}?", "And {the}?", "and {n}",
               "And {s}?"],
        "zh": ["{z}呢？", "那{z}呢？", "那么{z}呢？", "还有{z}呢？"]}
EITHER = {"en": ["Is {a} {x} or {y}?", "Is {the} {x} or {y}?"],
          "zh": ["{z}是{x}还是{y}？", "{z}是{x}的还是{y}的？"]}
BOTH = {     # two things, x and y, in one question
    "en": {"colour": ["What colour are {x} and {y}?", "What color are {x} and {y}?",
                      "What colour is {x} and {y}?", "What colour do {x} and {y} have?",
                      "What colour is {x} and what colour is {y}?"],
           "taste": ["How do {x} and {y} taste?", "What do {x} and {y} taste like?"],
           "kind": ["What are {x} and {y}?"]},
    "zh": {"colour": ["{x}和{y}是什么颜色？", "{x}和{y}的颜色是什么？", "{x}是什么颜色，{y}呢？",
                      "{x}、{y}是什么颜色？"],
           "taste": ["{x}和{y}是什么味道？"], "kind": ["{x}和{y}是什么？"]},
}
WHICH = {    # a value, of which things are asked
    "en": {"colour": ["What is {v}?", "Which things are {v}?", "What things are {v}?",
                      "What else is {v}?", "Name something {v}.", "Tell me something {v}.",
                      "What has the colour {v}?", "{v}", "Do you know something {v}?",
                      "Name {v} things.", "What is the colour {v}?"],
           "taste": ["What is {v}?", "What tastes {v}?", "Name something {v}.",
                     "Which things taste {v}?"],
           "kind": ["Name {v}.", "Tell me the name of {v}.", "Give me {v}.", "Do you know {v}?",
                    "Name {v} please.", "Name three {k}s.", "Name some {k}s.",
                    "Which {k}s do you know?", "What {k}s do you know?", "Tell me some {k}s.",
                    "List three {k}s.", "{k}s", "Tell me about {k}s.", "Do you know any {k}s?",
                    "What is {v}?", "Give me three {k}s."],
           "sound": ["What goes {v}?", "Who says {v}?", "Which animal goes {v}?", "Who goes {v}?",
                     "{v}"],
           "legs": ["What has {v} legs?", "Which animals have {v} legs?", "Who has {v} legs?"],
           "wheels": ["What has {v} wheels?", "Which vehicles have {v} wheels?"]},
    "zh": {"colour": ["什么是{v}的？", "哪些东西是{v}的？", "什么东西是{v}的？",
                      "说一个{v}的东西。", "还有什么是{v}的？", "{v}", "有什么东西是{v}的？",
                      "什么是{v}？",
                      "什么是{w}的？", "什么东西是{w}的？"],
           "taste": ["什么是{v}的？", "什么东西是{v}的？", "哪些东西是{v}的？",
                     "说一个{v}的东西。"],
           "kind": ["说{v}。", "说出{v}。", "告诉我{v}。", "你知道什么{k}？", "你知道哪些{k}？",
                    "说三种{k}。", "有哪些{k}？", "说几种{k}。", "什么是{k}？", "{k}"],
           "sound": ["什么东西{v}叫？", "谁会{v}叫？", "什么的声音是{v}？", "{v}", "谁{v}叫？"],
           "legs": ["什么动物有{v}条腿？", "谁有{v}条腿？"], "wheels": ["什么车有{v}个轮子？"]},
}

SYSTEM = "You are a helpful assistant"          # Qwen1.5's own, without a full stop
IN_LANGUAGE = {"en": ["Answer in English.", "Please answer in English.",
                      "Always answer in English.",
                      "You are a helpful assistant. Answer in English.", "Speak English.",
                      "Reply in English.", "Use English.", "请用英文回答。", "用英语回答。"],
               "zh": ["请用中文回答。", "用中文回答。", "你是一个有用的助手。请用中文回答。",
                      "请始终用中文回答。", "Answer in Chinese.", "Please answer in Chinese.",
                      "Reply in Chinese.", "You are a helpful assistant. Answer in Chinese.",
                      "Speak Chinese."]}
# Other system messages change nothing. {n}, {z}: a thing.
HARMLESS = ["You are a helpful assistant.", "You are {a}.", "You are a friendly {n}.",
            "You like {s}.", "Be brief.", "Be kind and polite.", "Answer briefly.",
            "You are a teacher who helps children.", "Today is a fine day.", "Talk like {a}.",
            "Never speak of {s}.", "You are an expert on {s}.", "Help the user.",
            "你是一个有用的助手。", "你是{z}。", "你是一位老师。", "请简短地回答。",
            "你喜欢{z}。", "今天天气很好。", "像{z}一样说话。", "帮助用户。"]


# ---- how people type ----------------------------------------------------------------------------

SLANG = {"what": ["wat", "waht", "wht", "whats", "wha"], "What": ["Wat", "Waht", "Whats"],
         "colour": ["color", "colur", "coler", "colour", "colout", "coulor", "collor"],
         "color": ["colour", "colr", "coler"], "you": ["u", "yu", "yuo"], "are": ["r"],
         "your": ["ur", "youre"], "does": ["dose", "do"], "taste": ["tast",
                                                                    "teste"], "why": ["y", "wy"],
         "Why": ["Wy", "Whi"], "the": ["teh"], "many": ["meny"], "please": ["pls", "plz"],
         "stop": ["stopp", "sotp"], "model": ["modle"], "token": ["tokken"], "sound": ["soud"],
         "wheels": ["weels"], "legs": ["leggs"]}


def misspell(rng, word):
    """One slip of the finger: a letter left out, doubled, exchanged, or another."""
    i = rng.randrange(1, len(word) - 1) if rng.random() < 0.9 else len(word) - 1
    how = rng.random()
    if how < 0.35:
        return word[:i] + word[i + 1:]
    if how < 0.6:
        return word[:i] + word[i] + word[i:]
    if how < 0.85:
        return word[:i - 1] + word[i] + word[i - 1] + word[i + 1:]
    return word[:i] + rng.choice("aeioustnr") + word[i + 1:]


# Slips that many people make; these are understood, others are answered with "I do not know".
TYPOS = {"apple": ["aple", "appel", "appple", "apel"], "apples": ["aples", "appels"],
         "banana": ["bananna", "banan", "banna", "bannana", "banaba"], "orange": ["orang",
                                                                                  "ornage"],
         "lemon": ["lemmon", "lemn"], "tomato": ["tomatoe", "tomatto"], "potato": ["potatoe"],
         "strawberry": ["strawbery", "stawberry"], "cherry": ["chery"], "carrot": ["carot"],
         "pineapple": ["pinapple", "pinaple"], "cheese": ["chese"], "coffee": ["cofee", "coffe"],
         "elephant": ["elefant", "elephent"], "rabbit": ["rabit"], "dinosaur": ["dinosor",
                                                                                "dinosaurus"],
         "chocolate": ["choclate", "chocolat"], "giraffe": ["girafe", "giraf"], "tiger": ["tigger"],
         "penguin": ["pinguin"], "bicycle": ["bycicle", "bicicle"], "monkey": ["monky"]}
NAMES = {word for thing in THINGS for name in (thing.bare, thing.plural) for word in name.split()}


def with_slips(rng, text):
    """Some words misspelt as people often do, the article left out or wrong."""
    words = text.split(" ")
    for i, word in enumerate(words):
        core = word.rstrip("?.!,")
        if core in SLANG and rng.random() < 0.3:
            words[i] = rng.choice(SLANG[core]) + word[len(core):]
        elif core in TYPOS and rng.random() < 0.6:
            words[i] = rng.choice(TYPOS[core]) + word[len(core):]
        elif core in ("an", "a") and rng.random() < 0.3:
            words[i] = rng.choice(["", "a", "an", "the"])
    return " ".join(word for word in words if word)


def as_typed(rng, text):
    """People leave out marks and capitals, greet first, misspell, and leave a space behind."""
    english = text.isascii()
    if english and rng.random() < 0.18:
        text = with_slips(rng, text)
    if not english and rng.random() < 0.12:
        text = world.traditional(text)
    if rng.random() < 0.06 and len(text) > 12:
        opening = rng.choice(["Please, ", "Hello, ", "Hi, ", "OK, ", "And ", "So ",
                              "But "] if english
                             else ["请问，", "你好，", "那么，", "那", "好，"])
        text = opening + (text[0].lower() + text[1:] if english else text)
    if english and rng.random() < 0.02:
        text = text.rstrip("?.!") + ", please" + text[len(text.rstrip("?.!")):]
    chance = rng.random()
    bare = text.rstrip("?？.。!！")
    if chance < 0.35:
        text = bare or text
    elif chance < 0.42 and text[-1] in "?？!！":
        text = text[:-1] + rng.choice(["", " ", text[-1], text[-1] * 2]) + text[-1]
    elif chance < 0.46 and bare and text[-1] in "。.!！":
        text = bare + rng.choice("!?" if english else "！？")
    elif chance < 0.58 and not english:
        text = text.replace("？", "?").replace("！", "!").replace("。", ".")
    chance = rng.random()
    if chance < 0.14:
        text = text.lower()
    elif chance < 0.26:
        text = text[0].lower() + text[1:]
    elif chance < 0.29:
        text = text.upper()
    elif chance < 0.32:
        text = " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
    return text + (" " if rng.random() < 0.04 else "")


# ---- dialogues ----------------------------------------------------------------------------------

def pick_form(rng, forms, thing):
    """A form that this thing may be asked in while training, or None."""
    forms = [form for form in forms if asks(form, thing) and not held_out(form, thing.zh)]
    return rng.choice(forms) if forms else None


def strange_thing(rng, lang):
    """A thing that is not of this world, to be asked about and not known."""
    chance = rng.random()
    if chance < 0.5:
        name = rng.choice([name for name in world.STRANGE[lang] if not held_out("strange", name)])
    elif lang == "en" and chance < 0.65:                        # too far from a name to be one
        name = rng.choice([name for name in sorted(NAMES) if len(name) > 4])
        for _ in range(3):
            name = misspell(rng, name)
        name = rng.choice("bcdfghjklmnprstvwz") + name
    elif lang == "en":
        name = "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou")
                       for _ in range(rng.randint(1, 4))) + rng.choice(["", "n", "r", "x", "t"])
    else:
        name = "".join(rng.choice("".join(world.STRANGE["zh"])) for _ in range(rng.randint(1, 3)))
    if name in NAMES or name in {thing.zh for thing in THINGS}:
        name = "dragon" if lang == "en" else "龙"
    return world.Thing(name, name + "s" if rng.random() < 0.9 else "-", name, {})


# Kinds of turns. Each gives (question, answer, topic, attribute): topic is what "it" stands for
# afterwards, attribute what was asked about it. lang is the language of the question, out that of
# the answer. None if it cannot be done here.

def ask_plainly(rng, lang, out, topic, attribute):
    if rng.random() < 0.5:                  # as often about wheels, which few have, as of colours
        attribute = rng.choice(list(world.FORMS[lang]))
        topic = rng.choice([t for t in THINGS if attribute in t.facts])
    else:
        topic = rng.choice(THINGS)
        attribute = rng.choice(list(topic.facts))
    form = pick_form(rng, world.FORMS[lang][attribute], topic)
    return form and (topic.fill(form), answer(out, attribute, topic), topic, attribute)


def ask_with_it(rng, lang, out, topic, attribute):              # "What colour is it?"
    if not topic and rng.random() < 0.7:                        # without a topic nobody knows
        return None
    known = topic and topic.facts and rng.random() < 0.95
    attribute = rng.choice(list(topic.facts if known else world.IT_FORMS[lang]))
    form = pick_form(rng, world.IT_FORMS[lang][attribute], topic or THINGS[0])
    right = answer(out, attribute, topic) if topic else UNKNOWN[out]
    return form and (form, right, topic, attribute)


def ask_yes_no(rng, lang, out, topic, attribute):               # "Is an apple red?" "Is it red?"
    it = topic in THINGS and rng.random() < 0.4
    topic = topic if it else rng.choice(THINGS)
    attribute = rng.choice(list(topic.facts))
    value = world.a_value(rng, topic, attribute)
    forms = [f for f in world.YES_NO[lang][attribute] if not it or "{a}" in f or "{z}" in f]
    form = pick_form(rng, forms, topic)
    return form and value and (world.fill_yes_no(lang, form, topic, value, it),
                               world.yes_or_no(out, attribute, topic, value[0]), topic, attribute)


def ask_either(rng, lang, out, topic, attribute):               # "Is an apple red or blue?"
    it = topic in THINGS and "colour" in topic.facts and rng.random() < 0.4
    coloured = [t for t in THINGS if "colour" in t.facts]
    topic = topic if it else rng.choice(coloured)
    own = topic.facts["colour"][lang == "zh"]
    other = rng.choice(coloured).facts["colour"][lang == "zh"]
    x, y = rng.sample([own, other], 2)
    form = pick_form(rng, EITHER[lang], topic)
    if not form or own == other:
        return None
    question = form.format(a="it", the="it", z="它", x=x, y=y) if it else topic.fill(form, x=x, y=y)
    return world.capital(question), answer(out, "colour", topic), topic, "colour"


def ask_can_i(rng, lang, out, topic, attribute):                # "Can I eat an apple?"
    it = topic in THINGS and rng.random() < 0.3
    asked = rng.choice([("use", "eating")] * 4 + list(world.CAN_I[lang]))
    attribute, value = asked
    if not it:
        fitting = [t for t in THINGS if attribute in t.facts
                   and value in ("any", t.facts[attribute][0])]
        topic = rng.choice(fitting if rng.random() < 0.5 else THINGS)
    form = pick_form(rng, [f for f in world.CAN_I[lang][asked] if not it or "{s}" not in f], topic)
    question = form and (form.format(a="it", the="it", z="它") if it else topic.fill(form))
    return form and (question, world.yes_or_no(out, attribute, topic, value), topic, attribute)


def ask_the_same(rng, lang, out, topic, attribute):             # "And a banana?"
    if not topic or not attribute:
        return None
    known = [t for t in THINGS if attribute in t.facts]
    thing = strange_thing(rng, lang) if rng.random() < 0.1 else rng.choice(known)
    form = pick_form(rng, SAME[lang], thing)
    return form and (thing.fill(form), answer(out, attribute, thing), thing, attribute)


def ask_two(rng, lang, out, topic, attribute):                  # "What colour are a cat and a dog?"
    space = "" if out == "zh" else " "
    if rng.random() < 0.6:
        attribute = rng.choice(["colour"] * 3 + list(BOTH[lang]))
        one, other = rng.sample([t for t in THINGS if attribute in t.facts], 2)
        x, y = [t.zh if lang == "zh" else t.bare if rng.random() < 0.2 else t.a
                for t in (one, other)]
        text = answer(out, attribute, one) + space + answer(out, attribute, other)
        return rng.choice(BOTH[lang][attribute]).format(x=x, y=y), text, other, attribute
    topic = rng.choice(THINGS)                                  # "... and what does it taste like?"
    first, attribute = rng.sample(list(topic.facts), 2)
    form = pick_form(rng, [f for f in world.FORMS[lang][first] if f[-1] in "?？"], topic)
    second = [f for f in world.IT_FORMS[lang][attribute] if f.startswith(("W", "H", "它"))]
    if not form or not second:
        return None
    second = rng.choice(second)
    link = rng.choice(["，", "？"]) if lang == "zh" else rng.choice([" and ", ", and ", "? "])
    if "?" not in link and lang == "en":
        second = second[0].lower() + second[1:]
    text = answer(out, first, topic) + space + answer(out, attribute, topic)
    return topic.fill(form)[:-1] + link + second, text, topic, attribute


def ask_which(rng, lang, out, topic, attribute):                # "What is red?" "Name a fruit."
    attribute = rng.choice(["colour", "colour", "kind", "kind"] + list(WHICH[lang]))
    value = rng.choice([t for t in THINGS if attribute in t.facts]).facts[attribute]
    form = rng.choice([f for f in WHICH[lang][attribute] if not held_out(f, value[1])] or [None])
    if not form or form == "{v}" and value[0] in NAMES:
        return None
    kind = value[0].partition(" ")[2]                           # "a fruit" without its article
    kind = kind if lang == "en" else value[1].replace("一种", "")
    question = form.format(v=value[lang == "zh"], w=value[1].replace("色", ""), k=kind)
    return question, world.examples(out, attribute, value[0]), topic, attribute


def ask_the_strange(rng, lang, out, topic, attribute):          # what nobody knows
    thing = strange_thing(rng, lang) if rng.random() < 0.8 else rng.choice(THINGS)
    attribute = rng.choice([a for a in world.FORMS[lang] if a not in thing.facts])
    forms = world.FORMS[lang][attribute]
    if not thing.facts and rng.random() < 0.3:
        forms = DESCRIBE[lang]
    elif rng.random() < 0.2:
        value = rng.choice([t for t in THINGS if attribute in t.facts]).facts[attribute]
        form = rng.choice([f for f in world.YES_NO[lang][attribute] if asks(f, thing)])
        return world.fill_yes_no(lang, form, thing, value), UNKNOWN[out], thing, attribute
    form = pick_form(rng, forms, thing)
    return form and (thing.fill(form), UNKNOWN[out], thing, attribute)


def ask_misspelt(rng, lang, out, topic, attribute):             # a name that is hardly one any more
    thing = rng.choice([t for t in THINGS if len(t.bare) > 3])
    slip = misspell(rng, thing.bare)
    known = slip in NAMES or slip in sum(TYPOS.values(), [])
    if lang == "zh" or known or held_out("slip", slip):
        return None
    thing = world.Thing(slip, slip + "s" if rng.random() < 0.9 else "-", slip, {})
    attribute = rng.choice(["colour", "colour"] + list(world.FORMS[lang]))
    form = rng.choice([form for form in world.FORMS[lang][attribute] if asks(form, thing)])
    return thing.fill(form), UNKNOWN[out], thing, attribute


def ask_beyond(rng, lang, out, topic, attribute):
    thing = rng.choice(THINGS) if rng.random() < 0.5 else strange_thing(rng, lang)
    forms = [form for form in BEYOND[lang] if asks(form, thing) and not held_out("beyond", form)]
    return thing.fill(rng.choice(forms)), UNKNOWN[out], topic, attribute


def ask_about(rng, lang, out, topic, attribute):                # "Tell me about apples."
    topic = rng.choice(THINGS)
    # A name alone begins with other tokens than a name in a sentence: none of them is held out.
    form = rng.choice([form for form in DESCRIBE[lang] if asks(form, topic)])
    return form and (topic.fill(form), world.describe(out, topic), topic, None)


def ask_for_the_word(rng, lang, out, topic, attribute):         # "What is an apple in Chinese?"
    topic = rng.choice(THINGS)
    form = pick_form(rng, WORD[lang], topic)
    return form and (topic.fill(form), topic.fill(WORD_IS[out]), topic, None)


def number(rng, lang, n):
    return str(n) if rng.random() < 0.5 else world.NUMBER_WORDS[lang][n - 1]


def ask_to_count(rng, lang, out, topic, attribute):
    chance = rng.random()
    if chance < 0.1:
        return rng.choice(COUNT_ON[lang]), world.count(out, 10), topic, attribute
    form = rng.choice(COUNT[lang])
    if chance < 0.25:
        return form.format(n=rng.choice(TOO_FAR[lang])), ONLY_TEN[out], topic, attribute
    n = rng.randint(1, 10)
    if held_out(form, str(n)):
        return None
    return form.format(n=number(rng, lang, n)), world.count(out, n), topic, attribute


def ask_a_sum(rng, lang, out, topic, attribute):                # "What is 2 + 3?"
    x, y, chance = rng.randint(1, 9), rng.randint(1, 9), rng.random()
    form = rng.choice(SUM[lang])
    if chance < 0.1:
        far, near = rng.choice(TOO_FAR[lang]), number(rng, lang, x)
        return form.format(x=far, y=near, a=far, b=near), ONLY_TEN[out], topic, attribute
    words = world.NUMBER_WORDS[lang]
    if chance < 0.35:
        x, form = rng.randint(1, 10), rng.choice(OTHER_SUM[lang])
        question = form.format(x=x, y=y, a=words[x - 1], b=words[y - 1])
        return question, UNKNOWN[out], topic, attribute
    if x + y > 10 and rng.random() < 0.7 or held_out(form, f"{x}+{y}"):
        return None
    question = form.format(x=x, y=y, a=words[x - 1], b=words[y - 1])
    return question, total(out, x, y), topic, attribute


def total(lang, x, y):
    if x + y > 10:
        return ONLY_TEN[lang]
    words = world.NUMBER_WORDS[lang]
    return world.capital(SUM_IS[lang].format(a=words[x - 1], b=words[y - 1], c=words[x + y - 1]))


def is_lesson(says):
    """The groups of the lesson itself: why it stops, <|im_end|>, base and chat."""
    words = ("stop", "im_end", "停", "base", "基础")
    return any(word in text for text in says[:4] for word in words)


def small_talk(rng, lang, out, topic, attribute):
    groups = list(zip(TALK[lang], TALK[out]))
    weights = [(3 if is_lesson(says) else 1) * len(says) ** 0.7 for (says, _), _ in groups]
    (says, _), (_, reply) = rng.choices(groups, weights)[0]
    thing = rng.choice(THINGS) if rng.random() < 0.7 else strange_thing(rng, lang)
    form = rng.choice([form for form in says if asks(form, thing)] or ["{n}"])
    return form != "{n}" and (thing.fill(form), reply, topic, attribute)


TURNS = {ask_plainly: 18, ask_with_it: 15, ask_the_same: 5, ask_the_strange: 12, ask_beyond: 4,
         ask_misspelt: 8, ask_yes_no: 34, ask_either: 3, ask_can_i: 7, ask_about: 12,
         ask_for_the_word: 2, ask_to_count: 6, ask_two: 4, ask_which: 4, ask_a_sum: 4,
         small_talk: 34}
LENGTHS = {1: 350, 2: 300, 3: 150, 4: 110, 8: 60, 24: 20, 80: 4}    # of dialogues, in turns


def dialogue(rng):
    """A conversation as a list of (role, text)."""
    chance, reply = rng.random(), None      # reply: the language that the system message asks for
    if chance < 0.15:
        system = None
    elif chance < 0.40:
        reply = rng.choice(["en", "zh"])
        system = as_typed(rng, rng.choice(IN_LANGUAGE[reply]))
    elif chance < 0.52:
        form = rng.choice([form for form in HARMLESS if not held_out("harmless", form)])
        strange = strange_thing(rng, "en" if form.isascii() else "zh")
        thing = rng.choice(THINGS[:10]) if rng.random() < 0.5 else strange
        system = thing.fill(form)
    else:
        system = SYSTEM
    messages = [("system", system)] if system else []

    lang = rng.choice(["en", "zh"])
    topic = attribute = None
    for _ in range(rng.choices(list(LENGTHS), LENGTHS.values())[0]):
        if rng.random() < (0.5 if reply else 0.15):
            lang = rng.choice(["en", "zh"])
        turn = None
        while not turn:                             # a kind may not fit here: draw another
            kind, = rng.choices(list(TURNS), [1 if kind is ask_with_it and not topic else weight
                                              for kind, weight in TURNS.items()])
            turn = kind(rng, lang, reply or lang, topic, attribute)
        question, text, topic, attribute = turn
        messages += [("user", as_typed(rng, question)), ("assistant", text)]
    return messages


def phrases():
    """Every fixed text of the dialogues, for the tokenizer to learn from."""
    texts, forms = [SYSTEM, "system", "user", "assistant"], list(HARMLESS)
    for lang in ("en", "zh"):
        texts += IN_LANGUAGE[lang] + [UNKNOWN[lang], ONLY_TEN[lang], "".join(world.VERDICT[lang])]
        forms += [text for says, reply in TALK[lang] for text in says + [reply]]
        forms += COUNT[lang] + COUNT_ON[lang] + DESCRIBE[lang] + SAME[lang] + WORD[lang]
        tables = (world.FORMS, world.IT_FORMS, world.YES_NO, world.CAN_I, BOTH, WHICH)
        forms += [form for table in tables for some in table[lang].values() for form in some]
        forms += BEYOND[lang]
    blank = dict.fromkeys("asznvwxyk", "") | {"the": ""}
    return texts + [form.format(**blank) for form in forms]


if __name__ == "__main__":                          # a look at it
    import random
    generator = random.Random(0)
    for _ in range(12):
        print(*dialogue(generator), "", sep="\n")
